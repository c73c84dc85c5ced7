using System.Runtime.InteropServices;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>
/// The tokens that switch an adapter on (aLoRA; Greenewald et al., 2025): it applies from the first token of their last occurrence in a text to the text's
/// end, and nowhere in a text without them. Keys and values before are the base's, so that a cache of the base can be continued.
/// </summary>
/// <param name="tokens">The tokens.</param>
internal sealed class InvocationTokens(IReadOnlyList<int> tokens)
{
    /// <summary>The tokens.</summary>
    public IReadOnlyList<int> Tokens => tokens;

    /// <summary>Index of the first token of their last occurrence; null if there is none.</summary>
    /// <param name="text">The text.</param>
    public int? Find(ReadOnlySpan<int> text)
    {
        var wanted = CollectionsMarshal.AsSpan([.. tokens]);
        var found = text.LastIndexOf(wanted);
        return found < 0 ? null : found;
    }

    /// <summary>1 for a token of a batch to which its row's adapter applies and 0 for others, [batch, tokens, 1], float32, in the current dispose scope.</summary>
    /// <param name="input">The batch. Where it continues a cache, its <see cref="ModelInput.AdaptedFrom"/> or what the cache knows decides.</param>
    /// <param name="ofRows">The tokens that switch each row's adapter on; null for a row whose adapter applies to all tokens.</param>
    /// <param name="past">Number of tokens in the cache before those of the batch.</param>
    internal static Tensor Mask(ModelInput input, IReadOnlyList<InvocationTokens?> ofRows, int past)
    {
        var (batch, width) = ((int)input.InputIds.size(0), (int)input.InputIds.size(1));
        var mask = new float[batch * width];
        if (input.Cache is null && input.AdaptedFrom is null)
        {
            Mark(mask, Ids(input.InputIds), input.Documents is { } documents ? Ids(documents) : null, width, ofRows);
            return Sent(mask, batch, width, input.InputIds.device);
        }

        var from = input.AdaptedFrom ?? (past > 0 ? input.Cache!.AdaptedFrom : null) ?? [.. Rows(Ids(input.InputIds), width).Zip(ofRows, (row, own) => own is null ? 0 : (long?)own.Find(row) + past)];
        for (var i = 0; i < mask.Length; i++)
        {
            mask[i] = from[i / width] is { } first && past + (i % width) >= first ? 1 : 0;
        }

        if (input.Cache is not null)
        {
            input.Cache.AdaptedFrom = from;
        }

        return Sent(mask, batch, width, input.InputIds.device);
    }

    /// <summary>An update of a linear layer's output, zero for the tokens to which the adapter does not apply.</summary>
    /// <param name="update">The update, [batch, tokens, out] or [batch x tokens, out].</param>
    /// <param name="module">Name of the layer.</param>
    internal static Tensor Masked(Tensor update, string module)
    {
        if (AdaptedTokens.Current is not { } tokens || tokens.numel() != update.numel() / update.size(-1))
        {
            throw new InvalidOperationException($"{module} does not see every token of a text, so that an adapter with alora_invocation_tokens cannot apply to it; give Logits the batch if it is the output head, and otherwise leave it out of target_modules");
        }

        return update.mul(tokens.view([.. update.shape[..^1], 1]));
    }

    // Of packed rows each document is a text of its own.
    private static void Mark(float[] mask, int[] ids, int[]? documents, int width, IReadOnlyList<InvocationTokens?> ofRows)
    {
        for (var start = 0; start < ids.Length;)
        {
            var end = start + 1;
            while (end < ids.Length && end % width != 0 && (documents is null || documents[end] == documents[start]))
            {
                end++;
            }

            var own = ofRows[start / width];
            if (documents?[start] != 0 && (own is null ? 0 : own.Find(ids.AsSpan(start, end - start))) is { } found)
            {
                mask.AsSpan((start + found)..end).Fill(1);
            }

            start = end;
        }
    }

    private static Tensor Sent(float[] mask, int batch, int width, Device device) => Devices.Send(tensor(mask, [batch, width, 1]), device);

    private static int[] Ids(Tensor ids)
    {
        using var scope = NewDisposeScope();
        return Array.ConvertAll(MemoryMarshal.Cast<byte, long>(ids.to(int64).cpu().contiguous().bytes).ToArray(), static id => (int)id);
    }

    private static IEnumerable<int[]> Rows(int[] ids, int width) => ids.Chunk(width);
}
