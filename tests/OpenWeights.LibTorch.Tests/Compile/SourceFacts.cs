using OpenWeights.LibTorch.Tests.Api;

namespace OpenWeights.LibTorch.Tests.Compile;

/// <summary>What a listing leaves out and a caller's compiler sees, as TorchSharp 0.106's source has it.</summary>
internal static class SourceFacts
{
    private const string IsModule = "global::TorchSharp.torch.nn.Module";

    // Keys: a type, or a type and its generic method.
    private static readonly Dictionary<string, string> s_constraints = new()
    {
        ["TorchSharp.torch.autograd.Function"] = "where T : global::TorchSharp.torch.autograd.Function<T>, new()",
        ["TorchSharp.torch.autograd.SingleTensorFunction"] = "where T : global::TorchSharp.torch.autograd.SingleTensorFunction<T>, new()",
        ["TorchSharp.torch.autograd.MultiTensorFunction"] = "where T : global::TorchSharp.torch.autograd.MultiTensorFunction<T>, new()",
        ["TorchSharp.Modules.ModuleList"] = $"where T : {IsModule}",
        ["TorchSharp.Modules.ModuleDict"] = $"where T : {IsModule}",
        ["TorchSharp.torch.nn.ModuleList"] = $"where T : {IsModule}",
        ["TorchSharp.torch.nn.ModuleDict"] = $"where T : {IsModule}",
        ["TorchSharp.torch.nn.Module.Create"] = $"where T : {IsModule}, new()",
        ["TorchSharp.Modules.ParamGroup"] = "where TOptions : global::TorchSharp.Modules.OptimizerOptions",
        ["TorchSharp.Modules.OptimizerHelper._step"] = "where T : global::TorchSharp.Modules.ParamGroup",
        ["TorchSharp.TensorExtensionMethods.ToTensor"] = "where T : struct",
        ["TorchSharp.torch.Storage"] = "where T : unmanaged",
        ["TorchSharp.Utils.TensorAccessor"] = "where T : unmanaged",
        ["TorchSharp.Utils.ReferenceEqualityComparer"] = "where T : class",
        ["TorchSharp.torch.Tensor.storage"] = "where T : unmanaged",
        ["TorchSharp.torch.Tensor.data"] = "where T : unmanaged",
        ["TorchSharp.torch.Tensor.item"] = "where T : unmanaged",
        ["TorchSharp.torch.Tensor.ReadCpuValue"] = "where T : unmanaged",
    };

    // Keys: a method and its type, or a method wherever it stands.
    private static readonly Dictionary<string, string[]> s_tupleNames = new()
    {
        ["named_parameters"] = ["name", "parameter"],
        ["_named_parameters"] = ["name", "parameter"],
        ["named_buffers"] = ["name", "buffer"],
        ["_named_buffers"] = ["name", "buffer"],
        ["named_children"] = ["name", "module"],
        ["named_modules"] = ["name", "module"],
        ["TorchSharp.DisposeScope.MoveToOuter"] = ["first", "second", "third"],
        ["max"] = ["values", "indexes"],
        ["min"] = ["values", "indexes"],
        ["TorchSharp.torch.Tensor.topk"] = ["values", "indexes"],
        ["TorchSharp.torch.topk"] = ["values", "indices"],
        ["TorchSharp.torch.Tensor.sort"] = ["Values", "Indices"],
        ["TorchSharp.torch.sort"] = ["values", "indices"],
        ["kthvalue"] = ["values", "indices"],
        ["mode"] = ["values", "indices"],
        ["aminmax"] = ["min", "max"],
        ["std_mean"] = ["std", "mean"],
        ["unique"] = ["output", "inverse_indices", "counts"],
        ["unique_consecutive"] = ["output", "inverse_indices", "counts"],
        ["svd"] = ["U", "S", "Vh"],
        ["qr"] = ["Q", "R"],
        ["TorchSharp.torch.nn.Module.load_state_dict"] = ["missing_keys", "unexpected_keyes"],
        ["TorchSharp.torch.nn.Module.GetDefaultDeviceAndType"] = ["device", "dtype"],
        ["TorchSharp.torch.nn.init.CalculateFanInAndFanOut"] = ["fanIn", "fanOut"],
    };

    private static readonly Dictionary<string, string> s_propertyModifiers = new()
    {
        ["TorchSharp.torch.autograd.Function.Name"] = "abstract ",
        ["TorchSharp.torch.utils.data.Dataset.Count"] = "abstract ",
        ["TorchSharp.torch.nn.Module.training"] = "virtual ",
    };

    internal static string Constraint(ListedType type, string? method = null)
    {
        if (method is null)
        {
            return type.Name.EndsWith('>') ? s_constraints.GetValueOrDefault(type.PlainName, "") : "";
        }

        return type.PlainName switch
        {
            "TorchSharp.DisposeScope" => method[(method.LastIndexOf('<') + 1)..^1].Split(',').Aggregate("", static (all, name) => $"{all} where {name} : global::System.IDisposable"),
            "TorchSharp.ModuleExtensionMethods" => $"where T : {IsModule}",
            _ => s_constraints.GetValueOrDefault($"{type.PlainName}.{method.Split('<')[0]}", ""),
        };
    }

    /// <summary>The names of the elements of the tuple that a method gives, if they have names.</summary>
    internal static string[] TupleNames(string type, string method) =>
        s_tupleNames.GetValueOrDefault($"{type}.{method}") ?? s_tupleNames.GetValueOrDefault(method, []);

    internal static string PropertyModifier(string type, string property) => s_propertyModifiers.GetValueOrDefault($"{type}.{property}", "");

    /// <summary>Whether a method extends the type of its first parameter.</summary>
    internal static bool IsExtension(ListedType type, string parameters) => type.Kind == "static class"
        && type.Name.EndsWith("ExtensionMethods", StringComparison.Ordinal)
        && !parameters.StartsWith("System.IO.BinaryReader ", StringComparison.Ordinal)
        && !parameters.StartsWith("ref ", StringComparison.Ordinal);

    /// <summary>Instance fields are for derived classes, except those of plain data.</summary>
    internal static bool IsProtectedField(ListedType type, string field) => type.PlainName.StartsWith("TorchSharp.torch.nn.", StringComparison.Ordinal)
        || field.StartsWith('_') || field == "handle";
}
