using System.Reflection;
using System.Runtime.CompilerServices;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Tests.Library;

/// <summary>
/// What a program sees of the library is a file, so that a change of it is seen. Where it is meant, the file is written again by
/// <c>OWT_WRITE_API=1 scripts/test --filter PublicApiTests</c>.
/// </summary>
public sealed class PublicApiTests
{
    private static readonly string s_file = Path.Combine(SharedFiles.Root, "tests", "OpenWeights.Tune.Tests", "Library", "public-api.txt");
    private static readonly string s_types = Path.Combine(Path.GetDirectoryName(s_file)!, "public-types.txt");

    [Test]
    public void The_public_members_are_those_of_the_file()
    {
        List<string> lines = [.. typeof(LanguageModel).Assembly.GetExportedTypes().OrderBy(static t => t.FullName, StringComparer.Ordinal).SelectMany(Lines)];
        if (Environment.GetEnvironmentVariable("OWT_WRITE_API") == "1")
        {
            File.WriteAllText(s_file, string.Join('\n', lines) + "\n");
        }

        Assert.That(lines, Is.EqualTo(File.ReadLines(s_file)), "Where the change is meant: OWT_WRITE_API=1 scripts/test --filter PublicApiTests");
    }

    [Test]
    public void The_other_packages_show_the_types_of_their_file()
    {
        List<string> lines =
        [
            .. new[] { typeof(Formats.HuggingFace.ModelFolder), typeof(Hub.HubDownload), typeof(Tokenizers.Tokenizer) }
                .SelectMany(static t => t.Assembly.GetExportedTypes().Select(static e => e.FullName!).Order(StringComparer.Ordinal)),
        ];
        if (Environment.GetEnvironmentVariable("OWT_WRITE_API") == "1")
        {
            File.WriteAllText(s_types, string.Join('\n', lines) + "\n");
        }

        Assert.That(lines, Is.EqualTo(File.ReadLines(s_types)), "Where the change is meant: OWT_WRITE_API=1 scripts/test --filter PublicApiTests");
    }

    private static IEnumerable<string> Lines(Type type)
    {
        yield return $"{type.FullName}";
        var members = type.GetMembers(BindingFlags.Public | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly).Where(static m => !IsMade(m)).Select(Line).OfType<string>();
        foreach (var member in members.Order(StringComparer.Ordinal))
        {
            yield return $"    {member}";
        }
    }

    // What the compiler makes, above all for records.
    private static bool IsMade(MemberInfo member) => member.GetCustomAttribute<CompilerGeneratedAttribute>() is not null || member is MethodBase { IsSpecialName: true, IsConstructor: false }
        || member is MethodInfo { Name: "<Clone>$" or "Deconstruct" or "Equals" or "GetHashCode" or "ToString" };

    private static string? Line(MemberInfo member) => member switch
    {
        ConstructorInfo made => $"new({Parameters(made)})",
        MethodInfo method => $"{(method.IsStatic ? "static " : "")}{Name(method.ReturnType)} {method.Name}({Parameters(method)})",
        PropertyInfo property => $"{(property.GetMethod?.IsStatic == true ? "static " : "")}{Name(property.PropertyType)} {property.Name} {{{(property.GetMethod?.IsPublic == true ? " get;" : "")}{(property.SetMethod?.IsPublic == true ? " set;" : "")} }}",
        FieldInfo field => $"{Name(field.FieldType)} {field.Name}",
        EventInfo happened => $"event {Name(happened.EventHandlerType!)} {happened.Name}",
        _ => null,
    };

    private static string Parameters(MethodBase method) => string.Join(", ", method.GetParameters().Select(static p => $"{Name(p.ParameterType)} {p.Name}{(p.HasDefaultValue ? " = ..." : "")}"));

    private static string Name(Type type) => type.IsGenericType
        ? $"{type.Name.Split('`')[0]}<{string.Join(", ", type.GetGenericArguments().Select(Name))}>"
        : type.Name;
}
