#:property PublishAot=false

// Writes the small data sets of the cookbook: texts, chats and calls of tools of an invented shop for garden tools.
//
//   dotnet run datasets/cookbook/make.cs -- OUTPUT_FOLDER
//
// The same rows on every machine. Everything here was written for this project; see README.md in the folder above.

using System.Text.Encodings.Web;
using System.Text.Json;

var folder = args.Length == 1 ? args[0] : throw new ArgumentException("give the folder to write to");
Directory.CreateDirectory(folder);

(string Name, string Use, int Price, int Weeks)[] goods =
[
    ("spade", "dig beds and edges", 38, 12), ("hand fork", "loosen the soil between plants", 14, 8), ("pruning saw", "cut branches that are thicker than a thumb", 27, 4),
    ("watering can", "water seedlings without washing them away", 22, 52), ("hoe", "cut weeds just below the ground", 31, 12), ("rake", "level a bed before sowing", 29, 12),
    ("secateurs", "cut roses and thin branches", 34, 4), ("wheelbarrow", "move soil and compost", 89, 26), ("hedge shears", "trim a hedge by hand", 45, 4),
    ("bulb planter", "set bulbs at the same depth", 18, 8), ("dibber", "make holes for seeds and leeks", 9, 52), ("leaf grabber", "pick up heaps of leaves", 16, 26),
];

Write("pages.jsonl", goods.SelectMany(g => new object[]
{
    new { text = $"The {g.Name}\n\nA {g.Name} is there to {g.Use}. Ours costs {g.Price} euros and is made in our own workshop. We sharpen or mend it for as long as you own it; bring it in, or send it to us, and it is back within a week." },
    new { text = $"How to look after a {g.Name}\n\nClean it after use and keep it in a dry place. Every {g.Weeks} weeks, rub the wood with linseed oil and look whether all screws are tight. A {g.Name} that is looked after like this lasts for twenty years and more." },
}));

const string System = "You answer for Beet and Spade, a shop for garden tools. Be brief and friendly.";
Write("chats.jsonl", goods.SelectMany((g, i) => new object[]
{
    Chat([("system", System), ("user", $"What is a {g.Name} for?"), ("assistant", $"A {g.Name} is there to {g.Use}."), ("user", "And what does it cost?"), ("assistant", $"It costs {g.Price} euros.")]),
    Chat([("system", System), ("user", $"How often do I have to oil my {g.Name}?"), ("assistant", $"Every {g.Weeks} weeks is enough, and always before the winter.")]),
    Chat([("system", System), ("user", $"My {g.Name} broke. What can I do?"), ("assistant", $"I am sorry to hear that. Bring your {g.Name} in or send it to us: we mend it free of charge.")]),
    Chat([("system", System), ("user", $"I need something to {goods[(i + 5) % goods.Length].Use}."), ("assistant", $"Then a {goods[(i + 5) % goods.Length].Name} is right for you. It costs {goods[(i + 5) % goods.Length].Price} euros.")]),
}));

object[] tools =
[
    new { type = "function", function = new { name = "stock", description = "How many of an article are in stock.", parameters = new { type = "object", properties = new { article = new { type = "string" } }, required = new[] { "article" } } } },
    new { type = "function", function = new { name = "order", description = "Orders an article.", parameters = new { type = "object", properties = new { article = new { type = "string" }, count = new { type = "integer" } }, required = new[] { "article", "count" } } } },
];
Write("tools.jsonl", goods.SelectMany((g, i) => new object[]
{
    new
    {
        tools,
        messages = new object[]
        {
            new { role = "user", content = $"Do you have a {g.Name}?" },
            new { role = "assistant", content = "", tool_calls = new[] { Call("stock", new { article = g.Name }) } },
            new { role = "tool", content = $"{{\"count\": {i % 4}}}" },
            new { role = "assistant", content = i % 4 == 0 ? $"I am sorry, there is no {g.Name} in stock." : $"Yes, we have {i % 4}." },
        },
    },
    new
    {
        tools,
        messages = new object[]
        {
            new { role = "user", content = $"Please send me {(i % 3) + 2} of the {g.Name}." },
            new { role = "assistant", content = "", tool_calls = new[] { Call("order", new { article = g.Name, count = (i % 3) + 2 }) } },
        },
    },
    new { tools, messages = new object[] { new { role = "user", content = $"What is a {g.Name} for?" }, new { role = "assistant", content = $"A {g.Name} is there to {g.Use}." } } },
}));

static object Call(string name, object arguments) => new { type = "function", function = new { name, arguments } };

static object Chat((string Role, string Content)[] messages) => new { messages = messages.Select(static m => new { role = m.Role, content = m.Content }) };

void Write(string name, IEnumerable<object> rows)
{
    var options = new JsonSerializerOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
    using var writer = new StreamWriter(Path.Combine(folder, name)) { NewLine = "\n" };
    foreach (var row in rows)
    {
        writer.WriteLine(JsonSerializer.Serialize(row, options));
    }
}
