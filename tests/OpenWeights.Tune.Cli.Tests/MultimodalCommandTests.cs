using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>Commands on a multimodal checkpoint, of which only the text model is read.</summary>
public sealed class MultimodalCommandTests
{
    private static string Whole(string name) => SharedFiles.Require("goldens", "families2026", name);

    [Test]
    public void Inspect_says_which_model_is_read_and_what_is_not_loaded()
    {
        var text = Owt.Run(".", 0, "inspect", Whole("gemma3_whole")).Output;
        Assert.That(text, Does.Match(@"family +gemma3\n").And.Match(@"text_model +gemma3_text\n").And.Match(@"not_loaded +multi_modal_projector: 2 tensors, 2,080 parameters").And.Match(@"not_loaded +vision_tower: 32 tensors"));
        var json = Owt.Run(".", 0, "inspect", "--json", Whole("qwen3_vl_whole")).Json[0];
        Assert.That((json["parameters"]!.GetValue<long>(), json["not_loaded"]!["visual"]!["tensors"]!.GetValue<int>()), Is.EqualTo((100736, 27)));
        Assert.That(Owt.Run(".", 0, "inspect", "--json", Whole("gemma3_text")).Json[0]["text_model"], Is.Null);
    }

    [Test]
    public void A_GGUF_of_a_text_model_that_llama_cpp_would_compute_otherwise_is_refused()
    {
        using var work = new TemporaryFolder();
        var error = Owt.Run(work.Root, 2, "export", "--model", Whole("llama4_whole"), "--format", "gguf", "--output", "x.gguf").Error;
        Assert.That(error, Does.Contain("attention_chunk_size: llama.cpp computes only chunks of 8192 tokens"));
    }
}
