using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>owt recipes.</summary>
public sealed class RecipesTests
{
    [Test]
    public void Recipes_are_listed_shown_and_copied_and_never_over_a_file()
    {
        using var work = new TemporaryFolder();
        Assert.That(Owt.Run(work.Root, 0, "recipes", "list").Output, Does.Contain("qwen3-0.6b-lora").And.Contains("GiB"));
        var shown = Owt.Run(work.Root, 0, "recipes", "show", "qwen3-0.6b-lora").Output;
        Assert.That(File.ReadAllText(Path.Combine(SharedFiles.Root, "configs", "recipes", "qwen3-0.6b-lora.yaml")).ReplaceLineEndings("\n"), Is.EqualTo(shown));
        Owt.Run(work.Root, 0, "recipes", "copy", "qwen3-0.6b-lora");
        Assert.That(File.ReadAllText(work.At("qwen3-0.6b-lora.yaml")), Is.EqualTo(shown));
        Assert.That(Owt.Run(work.Root, 1, "recipes", "copy", "qwen3-0.6b-lora").Error, Does.Contain("already exists"));
        Assert.That(Owt.Run(work.Root, 1, "recipes", "show", "qwen3-lora").Error, Does.Contain("owt recipes list"));
    }
}
