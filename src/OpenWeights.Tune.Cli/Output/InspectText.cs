using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Cli.Output;

/// <summary>Formats the result of owt inspect: a line per property, and the number of tensors unless all are requested.</summary>
internal static class InspectText
{
    private const int MinWidth = 18;

    internal static void Write(TextWriter output, JsonObject found, bool tensors)
    {
        var width = Math.Max(MinWidth, found.Where(static p => IsLine(p.Value)).Max(static p => p.Key.Length));
        foreach (var (key, value) in found)
        {
            switch (key)
            {
                case "warnings":
                    value!.AsArray().ToList().ForEach(w => output.WriteLine($"{"warning".PadRight(width)} {w}"));
                    break;
                case "tensor_types":
                    Counts(output, value!.AsArray(), width);
                    break;
                case "not_loaded":
                    Parts(output, value!.AsObject(), width);
                    break;
                case "tensors":
                    List(output, value!.AsArray(), tensors);
                    break;
                default:
                    if (IsLine(value))
                    {
                        output.WriteLine($"{key.PadRight(width)} {(key == "bytes" ? Bytes(value!.GetValue<long>()) : Text(value))}");
                    }

                    break;
            }
        }
    }

    private static bool IsLine(JsonNode? value) => value is not (null or JsonArray { Count: 0 });

    private static string Bytes(long bytes) => $"{Amount.Count(bytes)} ({Amount.Bytes(bytes)})";

    private static void Parts(TextWriter output, JsonObject parts, int width)
    {
        foreach (var (name, part) in parts)
        {
            output.WriteLine($"{"not_loaded".PadRight(width)} {name}: {Amount.Count(part!["tensors"]!.GetValue<int>())} tensors, {Amount.Count(part["parameters"]!.GetValue<long>())} parameters, {Amount.Bytes(part["bytes"]!.GetValue<long>())}");
        }
    }

    private static void Counts(TextWriter output, JsonArray types, int width)
    {
        foreach (var type in types.Select(static t => t!.AsObject()))
        {
            var count = type["tensors"]!.GetValue<int>();
            output.WriteLine($"{"tensors".PadRight(width)} {Amount.Count(count)} {type["dtype"]}: {Amount.Count(type["parameters"]!.GetValue<long>())} values, {Amount.Bytes(type["bytes"]!.GetValue<long>())}");
        }
    }

    private static void List(TextWriter output, JsonArray all, bool wanted)
    {
        if (!wanted)
        {
            output.WriteLine("(--tensors lists them)");
            return;
        }

        var width = all.Max(static t => t!["name"]!.ToString().Length);
        foreach (var tensor in all)
        {
            output.WriteLine($"  {tensor!["name"]!.ToString().PadRight(width)}  {tensor["dtype"],-5} {Text(tensor["shape"])}");
        }
    }

    private static string Text(JsonNode? value) => value switch
    {
        null => "",
        JsonArray list when list.All(static i => i?.GetValueKind() == JsonValueKind.Number) => $"[{string.Join(", ", list.Select(static i => i!.ToString()))}]",
        JsonArray list => string.Join(", ", list.Select(Text)),
        JsonValue flag when flag.GetValueKind() is JsonValueKind.True or JsonValueKind.False => flag.GetValueKind() == JsonValueKind.True ? "yes" : "no",
        JsonValue number when number.GetValueKind() == JsonValueKind.Number => Number(number),
        _ => value.ToString(),
    };

    // Integers are printed in full; losses and factors with four significant digits.
    private static string Number(JsonValue value) => value.ToJsonString() is var text && long.TryParse(text, System.Globalization.CultureInfo.InvariantCulture, out var whole)
        ? Amount.Count(whole)
        : JsonSerializer.Deserialize<double>(text) is var number && (number == 0 || Math.Abs(number) >= 1e-3) ? Amount.Number(number, "0.####") : Amount.Number(number, "G4");
}
