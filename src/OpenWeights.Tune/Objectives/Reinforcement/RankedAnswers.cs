using System.Text;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Distributed;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Reinforcement;

/// <summary>What ranks tell each other of sampled answers, with all digits.</summary>
internal static class RankedAnswers
{
    /// <summary>The answers that all ranks made, in the order of ranks.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="rows">Those of this rank.</param>
    /// <param name="device">Device of the model.</param>
    internal static IReadOnlyList<TokenRow> Join(RankGroup ranks, IReadOnlyList<TokenRow> rows, Device device) => ranks.IsAlone ? rows : [.. ranks.Gather(Write(rows), device).SelectMany(Read)];

    /// <summary>Numbers of answers that ranks computed for their shares.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="values">Those of this rank, by the index of the answer.</param>
    /// <param name="device">Device of the model.</param>
    internal static IEnumerable<(int Index, float[] Values)> Join(RankGroup ranks, IReadOnlyList<(int Index, float[] Values)> values, Device device)
    {
        if (ranks.IsAlone)
        {
            return values;
        }

        using var stream = new MemoryStream();
        using var writer = new BinaryWriter(stream, Encoding.UTF8);
        writer.Write(values.Count);
        foreach (var (index, numbers) in values)
        {
            writer.Write(index);
            Write(writer, numbers);
        }

        writer.Flush();
        return ranks.Gather(stream.ToArray(), device).SelectMany(static bytes =>
        {
            using var reader = new BinaryReader(new MemoryStream(bytes), Encoding.UTF8);
            return Enumerable.Range(0, reader.ReadInt32()).Select(_ => (reader.ReadInt32(), Numbers(reader)!)).ToList();
        });
    }

    private static byte[] Write(IReadOnlyList<TokenRow> rows)
    {
        using var stream = new MemoryStream();
        using var writer = new BinaryWriter(stream, Encoding.UTF8);
        writer.Write(rows.Count);
        foreach (var row in rows)
        {
            var sample = row.Sample!;
            writer.Write(row.Ids.Length);
            Array.ForEach(row.Ids, writer.Write);
            writer.Write(row.Labels.Any(static l => l != TokenRow.Ignored));
            writer.Write(row.Source);
            writer.Write(sample.Group);
            writer.Write(sample.Length);
            writer.Write(sample.IsTruncated);
            writer.Write(sample.Rewards.Count);
            foreach (var (name, reward) in sample.Rewards)
            {
                writer.Write(name);
                writer.Write(reward is not null);
                writer.Write(reward ?? 0);
            }

            foreach (var text in new[] { sample.PromptText, sample.AnswerText, sample.Expected })
            {
                writer.Write(text is not null);
                writer.Write(text ?? "");
            }

            Write(writer, sample.SamplingLogProbs);
        }

        writer.Flush();
        return stream.ToArray();
    }

    private static List<TokenRow> Read(byte[] bytes)
    {
        using var reader = new BinaryReader(new MemoryStream(bytes), Encoding.UTF8);
        return [.. Enumerable.Range(0, reader.ReadInt32()).Select(_ => Row(reader))];
    }

    private static TokenRow Row(BinaryReader reader)
    {
        var ids = Enumerable.Range(0, reader.ReadInt32()).Select(_ => reader.ReadInt32()).ToArray();
        var (isTrained, source, group, length, isTruncated) = (reader.ReadBoolean(), reader.ReadString(), reader.ReadString(), reader.ReadInt32(), reader.ReadBoolean());
        var rewards = new Dictionary<string, double?>();
        for (var count = reader.ReadInt32(); count > 0; count--)
        {
            var (name, isThere, value) = (reader.ReadString(), reader.ReadBoolean(), reader.ReadDouble());
            rewards[name] = isThere ? value : null;
        }

        var texts = Enumerable.Range(0, 3).Select(_ => (IsThere: reader.ReadBoolean(), Text: reader.ReadString())).Select(static t => t.IsThere ? t.Text : null).ToArray();
        return SampledRows.Row(ids, length, isTrained, source, new AnswerSample
        {
            Group = group,
            Rewards = rewards,
            IsTruncated = isTruncated,
            Length = length,
            PromptText = texts[0],
            AnswerText = texts[1],
            Expected = texts[2],
            SamplingLogProbs = Numbers(reader),
        });
    }

    private static void Write(BinaryWriter writer, IReadOnlyList<float>? numbers)
    {
        writer.Write(numbers?.Count ?? -1);
        foreach (var number in numbers ?? [])
        {
            writer.Write(number);
        }
    }

    private static float[]? Numbers(BinaryReader reader) => reader.ReadInt32() is >= 0 and var count ? [.. Enumerable.Range(0, count).Select(_ => reader.ReadSingle())] : null;
}
