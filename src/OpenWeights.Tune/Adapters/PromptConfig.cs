using OpenWeights.Tune.Configuration;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Settings that the kinds with virtual tokens have, with PEFT's names. They adapt no modules.</summary>
internal abstract record PromptConfig : AdapterConfig
{
    /// <summary>num_virtual_tokens: number of virtual tokens ahead of every text.</summary>
    [Setting("Number of virtual tokens ahead of every text.", Min = 1)]
    public int NumVirtualTokens { get; init; } = 20;

    internal override bool Takes(nn.Module module) => false;
}
