using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Testing;
using OpenWeights.Tokenizers;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Export.Gguf;

namespace OpenWeights.Tune.Tests.Export;

/// <summary>Modelfiles for Ollama: a TEMPLATE only where it says what the model's chat template says.</summary>
public sealed class OllamaModelfileTests
{
    [TestCase("own/chatml", "ChatML")]
    [TestCase("own/chatml-tools", "ChatML")]
    [TestCase("own/brackets", "Mistral")]
    [TestCase("mistral-common/v1", "Mistral")]
    [TestCase("mistral-common/v1_spm", "Mistral")]
    [TestCase("mistral-common/v3", "Mistral")]
    [TestCase("mistral-common/v3_spm", "Mistral")]
    [TestCase("mistral-common/v7", "Mistral")]
    [TestCase("mistral-common/v7_spm", "Mistral")]
    [TestCase("mistral-common/v13", "Mistral")]
    [TestCase("own/turns", "Gemma")]
    [TestCase("own/headers", null, Description = "it writes today's date")]
    [TestCase("own/tags", null)]
    [TestCase("tokenizers/llama-3", "Llama 3")]
    [TestCase("tokenizers/phi-3-mini", "Phi")]
    [TestCase("tokenizers/phi-4", "Phi")]
    [TestCase("tokenizers/gemma", "Gemma")]
    [TestCase("tokenizers/qwen2.5", "ChatML")]
    [TestCase("llama.cpp/Qwen-Qwen2.5-7B-Instruct", "ChatML")]
    [TestCase("llama.cpp-2026/Qwen-Qwen3-0.6B", "ChatML")]
    [TestCase("llama.cpp/mistralai-Mistral-Nemo-Instruct-2407", "Mistral")]
    [TestCase("llama.cpp/google-gemma-2-2b-it", "Gemma")]
    [TestCase("llama.cpp/microsoft-Phi-3.5-mini-instruct", "Phi")]
    [TestCase("chujiezheng/zephyr", null)]
    [TestCase("chujiezheng/vicuna", null)]
    [TestCase("llama.cpp/meta-llama-Llama-3.2-3B-Instruct", null, Description = "it writes today's date")]
    [TestCase("llama.cpp-2026/HuggingFaceTB-SmolLM3-3B", null)]
    [TestCase("llama.cpp-2026/GLM-4.6", null)]
    public void A_template_for_Ollama_is_written_only_where_it_says_the_same(string name, string? format)
    {
        var tokenizer = name.StartsWith("tokenizers/", StringComparison.Ordinal)
            ? Templated.Of(SharedFiles.Require(["fixtures", .. name.Split('/'), "tokenizer_config.json"]))
            : new Templated(File.ReadAllText(SharedFiles.Require(["fixtures", "chat-templates", .. $"{name}.jinja".Split('/')])));
        var jinja = tokenizer.ChatTemplateText!;
        var found = OllamaModelfile.Find(tokenizer);
        Assert.That(found?.Format.Name, Is.EqualTo(format));
        if (found is not { } known)
        {
            return;
        }

        var template = ChatTemplate.Parse(jinja, name);
        foreach (var turns in new[] { 1, 2, 4 })
        {
            foreach (var system in new[] { null, "Answer in one word." })
            {
                var chat = Chat(system, turns);
                string expected;
                try
                {
                    expected = template.Render(new ChatTemplateInput { Messages = chat, AddGenerationPrompt = true, SpecialTokens = tokenizer.SpecialTokens });
                }
                catch (ChatTemplateException)
                {
                    Assert.That(system, Is.Not.Null);
                    continue;
                }

                var bos = tokenizer.SpecialTokens.GetValueOrDefault("bos_token") ?? "";
                expected = bos.Length > 0 && expected.StartsWith(bos, StringComparison.Ordinal) ? expected[bos.Length..] : expected;
                Assert.That(GoTemplate.Execute(known.Format.Template(), Chat(system ?? known.DefaultSystem, turns)), Is.EqualTo(expected), $"{turns} turns, system: {system}");
            }
        }
    }

    [Test]
    public void A_mark_of_turns_that_is_the_BOS_token_too_stays_where_it_is()
    {
        // SmolLM2's.
        const string jinja = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are Smol.<|im_end|>\n' }}{% endif %}"
            + "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
        var tokenizer = new Templated(jinja) { SpecialTokens = new Dictionary<string, string> { ["bos_token"] = "<|im_start|>", ["eos_token"] = "<|im_end|>" } };
        Assert.That(OllamaModelfile.Find(tokenizer) is { } found ? (found.Format.Name, found.DefaultSystem) : default, Is.EqualTo(("ChatML", "You are Smol.")));
    }

    [Test]
    public void A_Modelfile_has_the_file_the_stop_words_and_the_sampling_of_the_model()
    {
        using var work = new TemporaryFolder();
        var source = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");
        foreach (var file in Directory.EnumerateFiles(source).Where(static f => !f.EndsWith(".safetensors", StringComparison.Ordinal)))
        {
            File.Copy(file, work[Path.GetFileName(file)]);
        }

        work.Write("generation_config.json", """{"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.05}""");
        work.Write("model.safetensors", "");
        var (text, about) = OllamaModelfile.Write(ModelFolder.Open(work.Root), "mine.gguf");
        var lines = text.Split('\n');
        Assert.That(lines[0], Is.EqualTo("FROM ./mine.gguf"));
        Assert.That(text, Does.Contain("PARAMETER stop \"<|im_end|>\"").And.Contains("PARAMETER temperature 0.6\n").And.Contains("PARAMETER repeat_penalty 1.05\n").And.Contains("PARAMETER top_k 20\n"));
        Assert.That(about, Does.Contain("ChatML"));
        Assert.That(text, Does.Contain("TEMPLATE \"\"\"{{ range"));
        Assert.That(OllamaModelfile.Write(ModelFolder.Open(work.Root), "mine.gguf", "{{ messages[0].content }}").Text, Does.Not.Contain("TEMPLATE \"\"\"").And.Contains("# The model's chat template is none of those"));
    }

    // A tokenizer of which the template and its special tokens are asked alone.
    private sealed record Templated(string ChatTemplateText) : ITokenizer
    {
        public int? EosToken => null;

        internal static Templated Of(string settings)
        {
            var json = JsonNode.Parse(File.ReadAllText(settings))!;
            string? Token(string name) => json[name] is JsonObject token ? token["content"]!.ToString() : json[name]?.ToString();
            var special = new[] { "bos_token", "eos_token" }.Where(n => Token(n) is not null).ToDictionary(static n => n, n => Token(n)!);
            return new Templated(json["chat_template"]!.ToString()) { SpecialTokens = special };
        }

        public IReadOnlyDictionary<string, string> SpecialTokens { get; init; } = new Dictionary<string, string> { ["bos_token"] = "<s>", ["eos_token"] = "</s>" };

        public string? ChatTemplateFor(bool withTools) => ChatTemplateText;

        public int[] Encode(string text, bool addSpecialTokens) => throw new NotSupportedException();

        public IReadOnlyList<TokenSpan> EncodeWithOffsets(string text, bool addSpecialTokens, bool trimOffsets = false) => throw new NotSupportedException();

        public string Decode(IEnumerable<int> ids, bool skipSpecialTokens) => throw new NotSupportedException();
    }

    private static JsonArray Chat(string? system, int turns)
    {
        static JsonObject Message(string role, string content) => new() { ["role"] = role, ["content"] = content };
        JsonArray chat = system is null ? [] : [Message("system", system)];
        for (var turn = 1; turn <= turns; turn++)
        {
            chat.Add(Message("user", $"And {turn}, what?"));
            if (turn < turns)
            {
                chat.Add(Message("assistant", $"That is {turn}."));
            }
        }

        return chat;
    }
}
