using System.Globalization;
using System.Reflection;

namespace OpenWeights.LibTorch.Tests.Api;

/// <summary>Describes loaded types in the words of a listing.</summary>
internal static class ApiDescription
{
    private const BindingFlags Declared = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;

    /// <summary>The types of an assembly that a caller or a derived class can see, in the namespaces that begin with a name.</summary>
    internal static IEnumerable<Type> VisibleTypes(Assembly assembly, string namespaceStart) =>
        assembly.GetTypes().Where(type => IsSeen(type) && (type.Namespace ?? "").StartsWith(namespaceStart, StringComparison.Ordinal));

    internal static ListedType Describe(Type type)
    {
        var kind = Kind(type);
        var members = kind == "delegate"
            ? [$"D {TypeName(type.GetMethod("Invoke")!.ReturnType)} ({Parameters(type.GetMethod("Invoke")!.GetParameters())})"]
            : Members(type).Order(StringComparer.Ordinal).ToArray();
        return new ListedType(kind, TypeName(type), Bases(type), members);
    }

    /// <summary>The line of a method.</summary>
    internal static string Signature(MethodInfo method)
    {
        var generic = method.IsGenericMethod ? $"<{string.Join(',', method.GetGenericArguments().Select(TypeName))}>" : "";
        return $"M {Access(method)} {Modifier(method)}{TypeName(method.ReturnType)} {method.Name}{generic}({Parameters(method.GetParameters())})";
    }

    internal static string TypeName(Type type)
    {
        if (type.IsByRef)
        {
            return TypeName(type.GetElementType()!);
        }

        if (type.IsArray)
        {
            return $"{TypeName(type.GetElementType()!)}[{new string(',', type.GetArrayRank() - 1)}]";
        }

        if (type.IsGenericParameter)
        {
            return type.Name;
        }

        var name = type.Name.Split('`')[0];
        var outer = type.DeclaringType;
        var own = type.GetGenericArguments().Skip(outer?.GetGenericArguments().Length ?? 0).Select(TypeName).ToArray();
        var full = own.Length == 0 ? name : $"{name}<{string.Join(',', own)}>";
        if (outer is null)
        {
            return type.Namespace is null ? full : $"{type.Namespace}.{full}";
        }

        var outerArguments = type.GetGenericArguments()[..outer.GetGenericArguments().Length];
        return $"{TypeName(outerArguments.Length == 0 ? outer : outer.MakeGenericType(outerArguments))}.{full}";
    }

    private static bool IsSeen(Type type) => type.IsPublic
        || (type.DeclaringType is { } outer && IsSeen(outer) && (type.IsNestedPublic || type.IsNestedFamily || type.IsNestedFamORAssem));

    private static string Kind(Type type) =>
        type.IsEnum ? "enum"
        : type.IsValueType ? "struct"
        : type.IsInterface ? "interface"
        : type.IsSubclassOf(typeof(Delegate)) ? "delegate"
        : type.IsAbstract && type.IsSealed ? "static class"
        : type.IsAbstract ? "abstract class"
        : type.IsSealed ? "sealed class"
        : "class";

    private static List<string> Bases(Type type)
    {
        var bases = new List<string>();
        if (type.BaseType is { } parent && parent != typeof(object) && parent != typeof(ValueType) && parent != typeof(Enum))
        {
            bases.Add(TypeName(parent));
        }

        // A type of another assembly (Attribute, Enum) may implement an interface that is not for callers.
        bases.AddRange(type.GetInterfaces().Where(static i => i.IsVisible).Select(TypeName).Order(StringComparer.Ordinal));
        return bases;
    }

    private static IEnumerable<string> Members(Type type)
    {
        foreach (var constructor in type.GetConstructors(Declared).Where(static c => !c.IsStatic && Access(c) is not null))
        {
            yield return $"C {Access(constructor)} ({Parameters(constructor.GetParameters())})";
        }

        foreach (var method in type.GetMethods(Declared).Where(static m => Access(m) is not null && !IsAccessor(m)))
        {
            yield return Signature(method);
        }

        foreach (var property in type.GetProperties(Declared))
        {
            var (getter, setter) = (Seen(property.GetMethod), Seen(property.SetMethod));
            var accessor = getter ?? setter;
            if (accessor is not null)
            {
                var index = property.GetIndexParameters() is { Length: > 0 } parameters ? $"[{Parameters(parameters)}]" : "";
                var access = getter?.IsPublic == true || setter?.IsPublic == true ? "public" : "protected";
                var accessors = $"{(getter is null ? "" : "get; ")}{(setter is { IsPublic: true } || (getter is null && setter is not null) ? "set; " : "")}";
                yield return $"P {access} {(accessor.IsStatic ? "static " : "")}{TypeName(property.PropertyType)} {property.Name}{index} {{ {accessors}}}";
            }
        }

        foreach (var field in type.GetFields(Declared).Where(static f => (f.IsPublic || f.IsFamily || f.IsFamilyOrAssembly) && !f.IsSpecialName))
        {
            yield return type.IsEnum
                ? $"F {field.Name} = {Convert.ToInt64(field.GetRawConstantValue(), CultureInfo.InvariantCulture)}"
                : $"F {(field.IsStatic ? "static " : "")}{TypeName(field.FieldType)} {field.Name}";
        }
    }

    private static bool IsAccessor(MethodInfo method) => method.IsSpecialName && !method.Name.StartsWith("op_", StringComparison.Ordinal);

    private static string? Access(MethodBase method) => method.IsPublic ? "public" : method.IsFamily || method.IsFamilyOrAssembly ? "protected" : null;

    private static MethodInfo? Seen(MethodInfo? accessor) => accessor is not null && Access(accessor) is not null ? accessor : null;

    private static string Modifier(MethodInfo method) =>
        method.IsStatic ? "static " : method.IsAbstract ? "abstract " : method.IsVirtual && !method.IsFinal ? "virtual " : "";

    private static string Parameters(ParameterInfo[] parameters) => string.Join(", ", parameters.Select(Parameter));

    private static string Parameter(ParameterInfo parameter)
    {
        var passing = parameter.IsDefined(typeof(ParamArrayAttribute)) || parameter.IsDefined(typeof(System.Runtime.CompilerServices.ParamCollectionAttribute)) ? "params "
            : !parameter.ParameterType.IsByRef ? ""
            : parameter.IsOut ? "out "
            : parameter.IsIn ? "in "
            : "ref ";
        var value = parameter.HasDefaultValue ? "=" + Value(parameter.RawDefaultValue) : "";
        return $"{passing}{TypeName(parameter.ParameterType)} {parameter.Name}{value}";
    }

    private static string Value(object? value) => value switch
    {
        null or Missing => "null",
        bool truth => truth ? "true" : "false",
        string text => $"\"{text}\"",
        IFormattable number => number.ToString(null, CultureInfo.InvariantCulture),
        _ => value.ToString()!,
    };
}
