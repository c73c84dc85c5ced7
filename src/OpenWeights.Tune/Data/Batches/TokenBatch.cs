using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Data.Batches;

/// <summary>Rows side by side, filled up to the longest, with what is to be predicted from where. Its tensors are in the caller's dispose scope.</summary>
public sealed class TokenBatch
{
    private TokenBatch(ModelInput input, Tensor sources, Tensor targets, Tensor? realTokens, int tokens)
    {
        RealTokens = realTokens;
        Input = input;
        Sources = sources;
        Targets = targets;
        TokenCount = tokens;
    }

    /// <summary>What the model reads.</summary>
    public ModelInput Input { get; }

    /// <summary>The places whose hidden state predicts a target, counted through the flattened batch, [targets], int64.</summary>
    public Tensor Sources { get; }

    /// <summary>The token ids to predict, [targets], int64.</summary>
    public Tensor Targets { get; }

    /// <summary>True for tokens that are not padding, [rows, tokens]; null where there is none.</summary>
    public Tensor? RealTokens { get; }

    /// <summary>The number of tokens that are not padding.</summary>
    public int TokenCount { get; }

    /// <summary>The number of tokens to predict.</summary>
    public int TargetCount => (int)Targets.size(0);

    /// <summary>Makes a batch of rows.</summary>
    /// <param name="rows">The rows.</param>
    /// <param name="padId">What fills shorter rows; nothing looks at it.</param>
    /// <param name="device">Where the batch is wanted.</param>
    public static TokenBatch Of(IReadOnlyList<TokenRow> rows, int padId, Device device)
    {
        ArgumentNullException.ThrowIfNull(rows);
        var (height, width) = (rows.Count, rows.Max(static r => r.Ids.Length));
        var ids = new long[height * width];
        var positions = new long[height * width];
        var documents = new long[height * width];
        var lengths = new long[height * width];
        var (sources, targets) = (new List<long>(), new List<long>());
        Array.Fill(ids, padId);
        for (var r = 0; r < height; r++)
        {
            var (row, at, document) = (rows[r], r * width, 0);
            var start = 0;
            foreach (var length in row.Documents)
            {
                document++;
                for (var i = 0; i < length; i++)
                {
                    var place = at + start + i;
                    (ids[place], positions[place], documents[place], lengths[place]) = (row.Ids[start + i], i, document, length);
                    if (i > 0 && row.Labels[start + i] != TokenRow.Ignored)
                    {
                        sources.Add(place - 1);
                        targets.Add(row.Labels[start + i]);
                    }
                }

                start += length;
            }
        }

        var packed = rows.Any(static r => r.Documents.Length > 1);
        Tensor OnDevice(long[] values, params long[] shape) => Devices.Send(tensor(values, shape), device);
        var input = packed
            ? new ModelInput
            {
                InputIds = OnDevice(ids, height, width),
                PositionIds = OnDevice(positions, height, width),
                LongestPosition = positions.Max(),
                Documents = OnDevice(documents, height, width),
                DocumentLengths = lengths,
            }
            : ModelInput.Rows(OnDevice(ids, height, width));
        var tokens = rows.Sum(static r => r.Ids.Length);
        var real = tokens == ids.Length ? null : Devices.Send(tensor(Array.ConvertAll(documents, static d => d > 0), [height, width]), device);
        return new TokenBatch(input, OnDevice([.. sources], sources.Count), OnDevice([.. targets], targets.Count), real, tokens);
    }
}
