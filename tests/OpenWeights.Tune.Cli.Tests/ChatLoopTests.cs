using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Cli.Commands;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Models.Weights;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>Conversations with the quickstart's base model.</summary>
public sealed class ChatLoopTests
{
    private static readonly string s_base = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");
    private LoadedModel _loaded = null!;
    private Tokenizer _tokenizer = null!;
    private StringWriter _output = null!;
    private StringWriter _notes = null!;

    [SetUp]
    public void Load()
    {
        _loaded = ModelLoader.Load(s_base, float32, CPU);
        _tokenizer = Tokenizer.Load(s_base);
        (_output, _notes) = (new StringWriter(), new StringWriter());
    }

    [TearDown]
    public void Unload()
    {
        _loaded.Dispose();
        _output.Dispose();
        _notes.Dispose();
    }

    [Test]
    public void An_answer_is_what_generate_gives_for_the_same_messages()
    {
        Talk("January 5\n");
        Assert.That(_output.ToString(), Is.EqualTo(Answer("<|im_start|>user\nJanuary 5<|im_end|>\n<|im_start|>assistant\n") + Environment.NewLine));
        Assert.That(_notes.ToString(), Does.Match(@"\(\d+ tokens, [\d.,]+ tokens/s\)"));
    }

    [Test]
    public void The_history_is_told_again_until_reset()
    {
        var first = Answer("<|im_start|>user\nfive<|im_end|>\n<|im_start|>assistant\n");
        var second = Answer($"<|im_start|>user\nfive<|im_end|>\n<|im_start|>assistant\n{first}<|im_end|>\n<|im_start|>user\nsix<|im_end|>\n<|im_start|>assistant\n");
        Talk("five\nsix\n/reset\nfive\n");
        Assert.That(_output.ToString(), Is.EqualTo(string.Join(Environment.NewLine, first, second, first, "")));
    }

    [Test]
    public void A_system_message_begins_anew_and_stays_after_a_reset()
    {
        var told = Answer("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nfive<|im_end|>\n<|im_start|>assistant\n");
        Talk("six\n/system Be brief.\nfive\n/reset\nfive\n/quit\nnever\n");
        Assert.That(_output.ToString().Split(Environment.NewLine)[1..], Is.EqualTo(new[] { told, told, "" }));
    }

    [Test]
    public void Lines_are_joined_by_backslashes_and_between_quotes()
    {
        var expected = Answer("<|im_start|>user\none\ntwo<|im_end|>\n<|im_start|>assistant\n") + Environment.NewLine;
        Talk("one\\\ntwo\n");
        Assert.That(_output.ToString(), Is.EqualTo(expected));
        _ = _output.GetStringBuilder().Clear();
        Talk("\"\"\"\none\ntwo\n\"\"\"\n");
        Assert.That(_output.ToString(), Is.EqualTo(expected));
    }

    [Test]
    public void An_adapter_changes_the_answer_and_goes_off_again()
    {
        using var work = new TemporaryFolder();
        using (var adapter = PeftAdapter.Create(_loaded.Model, new LoraConfig { Rank = 4, Alpha = 8, Targets = TargetModules.AllLinear }, 1))
        {
            using var nothing = no_grad();
            using var numbers = new Generator(1);
            foreach (var layer in adapter.Layers)
            {
                _ = layer.B.normal_(0, 3, numbers);
            }

            PeftFolder.Save(adapter, work["loud"], null);
        }

        using var adapters = new AdapterSet(_loaded.Model);
        _ = adapters.Load("loud", work["loud"]);
        Talk("five\n/reset\n/adapter none\nfive\n/reset\n/adapter loud\nfive\n/adapter\n/adapter other\n", adapters);
        var answers = _output.ToString().Split(Environment.NewLine);
        adapters.Use();
        Assert.That(answers[1], Is.EqualTo(Answer("<|im_start|>user\nfive<|im_end|>\n<|im_start|>assistant\n")), "without it the base answers");
        Assert.That((answers[0], answers[2]), Is.EqualTo((answers[2], answers[0])).And.Not.EqualTo((answers[1], answers[1])));
        Assert.That(_notes.ToString(), Does.Contain("loud (on)").And.Contains("no adapter is named other"));
    }

    [Test]
    public void Reasoning_is_hidden_unless_it_is_to_be_shown()
    {
        // The prompt begins a reasoning, which this model never ends.
        _tokenizer = _tokenizer.WithChatTemplate("{% for m in messages %}{{ m.content }}</think>{{ m.reasoning_content }}{% endfor %}{% if add_generation_prompt %}<think>{% endif %}");
        Talk("five\n", temperature: 2);
        Assert.That(_output.ToString().Trim(), Is.Empty);
        Assert.That(_notes.ToString(), Does.Contain("of them reasoning").And.Contains("--max-new-tokens"));
        Talk("five\n", temperature: 2, showsReasoning: true);
        Assert.That(_output.ToString().Trim(), Does.Match("^reasoning:\\s+\\S"));
    }

    [Test]
    public void Ctrl_C_stops_an_answer_and_the_conversation_goes_on()
    {
        ChatLoop? chat = null;
        using var adapters = new AdapterSet(_loaded.Model);
        using var output = new InterruptingWriter(() => chat!.Interrupt());
        using var talk = chat = new ChatLoop(_loaded.Model, _tokenizer, adapters, new GenerationOptions { MaxNewTokens = 60 }, [], new StringReader("five\n/reset\nsix\n"), output, _notes);
        chat.Run();
        Assert.That(_notes.ToString(), Does.Contain("stopped"));
        Assert.That(_notes.ToString().Split("tokens/s"), Has.Length.EqualTo(3), "two answers were begun");
        Assert.That(chat.Interrupt(), Is.True, "with no answer under way the first only asks");
        Assert.That(chat.Interrupt(), Is.False, "and the second ends");
    }

    [Test]
    public void A_conversation_that_is_too_long_is_said_and_not_begun()
    {
        Talk(string.Concat(Enumerable.Repeat("many words ", 100)) + "\n");
        Assert.That(_notes.ToString(), Does.Contain("/reset"));
        Assert.That(_output.ToString(), Is.Empty);
    }

    private void Talk(string typed, AdapterSet? adapters = null, double temperature = 0, bool showsReasoning = false)
    {
        using var none = new AdapterSet(_loaded.Model);
        using var chat = new ChatLoop(
            _loaded.Model, _tokenizer, adapters ?? none, new GenerationOptions { MaxNewTokens = 12, Temperature = temperature, EndTokens = temperature > 0 ? [] : [2] },
            [], new StringReader(typed), _output, _notes, showsReasoning);
        chat.Run();
    }

    private string Answer(string prompt)
    {
        var generator = new TextGenerator(_loaded.Model, new GenerationOptions { MaxNewTokens = 12, EndTokens = [2] });
        return _tokenizer.Decode(generator.Continue([_tokenizer.Encode(prompt, addSpecialTokens: false)])[0].OutputIds, skipSpecialTokens: true);
    }

    private sealed class InterruptingWriter(Func<bool> interrupt) : StringWriter
    {
        private bool _done;

        public override void Write(string? value)
        {
            base.Write(value);
            if (!_done)
            {
                _done = true;
                Assert.That(interrupt());
            }
        }
    }
}
