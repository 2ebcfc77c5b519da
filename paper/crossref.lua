-- Numbers figures, tables and equations in document order and resolves @fig:..., @tbl:... and @eq:... to them;
-- @Fig:..., @Tbl:... and @Eq:... do the same at the beginning of a sentence.
-- A reference to something that does not exist, an id used twice, and an exhibit that the text never mentions are
-- errors: pandoc stops. The writers for typst and LaTeX number captions in the same order by themselves.

local kinds = { fig = "figure", tbl = "table", eq = "equation" }
local counts = { fig = 0, tbl = 0, eq = 0 }
local numbers, mentioned = {}, {}

local function register(kind, id)
  counts[kind] = counts[kind] + 1
  if id == "" then return end
  if id:match("^" .. kind .. ":") == nil then
    error("the id of this " .. kinds[kind] .. " must begin with " .. kind .. ": but is " .. id)
  end
  if numbers[id] then error(id .. " is used twice") end
  numbers[id] = counts[kind]
end

local function kind_of(id)
  local kind = id:match("^(%a+):")
  kind = kind and kind:lower()
  return kinds[kind] and kind or nil
end

-- A paragraph that is one display equation and an attribute, $$ ... $$ {#eq:id}, is a numbered equation.
local function equation(para)
  local math, tag = para.content[1], para.content[#para.content]
  if #para.content < 2 or math.t ~= "Math" or math.mathtype ~= "DisplayMath" or tag.t ~= "Str" then return nil end
  local id = tag.text:match("^{#(eq:[%w_-]+)}$")
  if not id then return nil end
  register("eq", id)
  if FORMAT == "typst" then
    return { pandoc.RawBlock("typst", '#[#set math.equation(numbering: "(1)", supplement: none)'),
      pandoc.Para({ math, pandoc.RawInline("typst", "<" .. id .. ">") }), pandoc.RawBlock("typst", "]") }
  end
  if FORMAT == "latex" then
    local text = "\\begin{equation}\\label{" .. id .. "}\n" .. math.text .. "\n\\end{equation}"
    return pandoc.RawBlock("latex", text)
  end
  return pandoc.Para({ math })
end

local function reference(written)
  local kind = kind_of(written)
  local id = kind .. written:match(":.*$")
  if not numbers[id] then error("@" .. written .. " refers to nothing; the id is not defined in the text") end
  mentioned[id] = true
  local word, number = kinds[kind], tostring(numbers[id])
  if written ~= id then word = word:sub(1, 1):upper() .. word:sub(2) end
  return pandoc.Link(word .. "\u{a0}" .. (kind == "eq" and "(" .. number .. ")" or number), "#" .. id)
end

local function cite(element)
  local kind = kind_of(element.citations[1].id)
  if not kind then return nil end
  local inlines = {}
  for index, citation in ipairs(element.citations) do
    if index > 1 then table.insert(inlines, pandoc.Str(index == #element.citations and " and " or ", ")) end
    table.insert(inlines, reference(citation.id))
  end
  return inlines
end

function Pandoc(doc)
  doc = doc:walk({
    traverse = "topdown",
    Figure = function(element) register("fig", element.identifier) return nil, false end,
    Table = function(element)
      if #element.caption.long > 0 then register("tbl", element.identifier) end
      return nil, false
    end,
    Para = equation,
  })
  doc = doc:walk({ Cite = cite })
  for id in pairs(numbers) do -- an equation may stand without being mentioned
    if kind_of(id) ~= "eq" and not mentioned[id] then error("the text never refers to @" .. id) end
  end
  return doc
end
