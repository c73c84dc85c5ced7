using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Data.Batches;

/// <summary>A batch of rows, padded to the longest, with prediction targets. Its tensors are in the caller's dispose scope.</summary>
internal sealed class TokenBatch
{
    private TokenBatch(IReadOnlyList<TokenRow> rows, ModelInput input, Tensor sources, Tensor targets, Tensor targetRows, Tensor? realTokens)
    {
        Rows = rows;
        TargetRows = targetRows;
        RealTokens = realTokens;
        Input = input;
        Sources = sources;
        Targets = targets;
    }

    /// <summary>The rows.</summary>
    public IReadOnlyList<TokenRow> Rows { get; }

    /// <summary>The model's input.</summary>
    public ModelInput Input { get; }

    /// <summary>Positions in the flattened batch whose hidden state predicts a target, [targets], int64.</summary>
    public Tensor Sources { get; }

    /// <summary>The target token ids, [targets], int64.</summary>
    public Tensor Targets { get; }

    /// <summary>Index of each target's row, [targets], int64.</summary>
    public Tensor TargetRows { get; }

    /// <summary>True for tokens that are not padding, [rows, tokens]; null if there is no padding.</summary>
    public Tensor? RealTokens { get; }

    /// <summary>Number of target tokens.</summary>
    public int TargetCount => (int)Targets.size(0);

    /// <summary>
    /// Creates a batch of pairs of consecutive rows in which what both begin with is computed once: each pair is one row of the common beginning and
    /// both ends, which do not attend to each other. Targets are in the order of the rows.
    /// </summary>
    /// <param name="rows">The rows, of one document each.</param>
    /// <param name="padId">Padding token id.</param>
    /// <param name="device">The device.</param>
    internal static TokenBatch OfPairs(IReadOnlyList<TokenRow> rows, int padId, Device device)
    {
        var layout = new PairLayout(rows);
        var (height, width) = (rows.Count / 2, layout.Width);
        var (ids, positions, documents) = (new long[height * width], new long[height * width], new long[height * width]);
        var (sources, targets, targetRows) = (new List<long>(), new List<long>(), new List<long>());
        Array.Fill(ids, padId);
        for (var r = 0; r < rows.Count; r++)
        {
            var row = rows[r];
            for (var i = 0; i < row.Ids.Length; i++)
            {
                var place = layout.Place(r, i);
                (ids[place], positions[place], documents[place]) = (row.Ids[i], i, i < layout.Shared(r) ? -1 : 1 + (r % 2));
                if (i > 0 && row.Labels[i] != TokenRow.Ignored)
                {
                    sources.Add(layout.Place(r, i - 1));
                    targets.Add(row.Labels[i]);
                    targetRows.Add(r);
                }
            }
        }

        Tensor OnDevice(long[] values, params long[] shape) => Devices.Send(tensor(values, shape), device);
        var input = new ModelInput
        {
            InputIds = OnDevice(ids, height, width),
            PositionIds = OnDevice(positions, height, width),
            LongestPosition = rows.Max(static r => r.Ids.Length) - 1,
            Documents = OnDevice(documents, height, width),
            SharesBeginning = true,
        };
        return new TokenBatch(rows, input, OnDevice([.. sources], sources.Count), OnDevice([.. targets], targets.Count), OnDevice([.. targetRows], targets.Count), null);
    }

    /// <summary>Creates a batch.</summary>
    /// <param name="rows">The rows.</param>
    /// <param name="padId">Padding token id; no token attends to padding.</param>
    /// <param name="device">The device.</param>
    public static TokenBatch Of(IReadOnlyList<TokenRow> rows, int padId, Device device)
    {
        ArgumentNullException.ThrowIfNull(rows);
        var (height, width) = (rows.Count, rows.Max(static r => r.Ids.Length));
        var ids = new long[height * width];
        var positions = new long[height * width];
        var documents = new long[height * width];
        var lengths = new long[height * width];
        var (sources, targets, targetRows) = (new List<long>(), new List<long>(), new List<long>());
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
                        targetRows.Add(r);
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
        return new TokenBatch(rows, input, OnDevice([.. sources], sources.Count), OnDevice([.. targets], targets.Count), OnDevice([.. targetRows], targets.Count), real);
    }
}
