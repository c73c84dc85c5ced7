using System.Reflection;
using System.Runtime.CompilerServices;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.LibTorch.Tests.Api;

/// <summary>What the library may call over an installed libtorch is a part of what TorchSharp has, as its package is published.</summary>
public sealed class ApiSurfaceTests
{
    private static readonly Lazy<IReadOnlyList<ListedType>> s_ours = new(static () =>
        [.. Types().Select(ApiDescription.Describe)]);

    private static readonly Lazy<ApiListing> s_theirs = new(static () =>
        new(Types().Select(PublishedTorchSharp.Find).OfType<Type>().Select(ApiDescription.Describe)));

    [Test]
    public void Every_member_stands_in_TorchSharp_with_the_same_signature()
    {
        var differences = ApiComparison.Differences(s_ours.Value, s_theirs.Value);
        Assert.That(differences, Is.Empty, () => $"{differences.Count} differences from TorchSharp {PublishedTorchSharp.Version}:\n    " + string.Join("\n    ", differences));
    }

    [Test]
    public void Constraints_and_names_of_tuple_elements_are_TorchSharps()
    {
        var differences = new List<string>();
        var compared = 0;
        foreach (var (ours, theirs) in Types().Select(static type => (type, PublishedTorchSharp.Find(type))).Where(static pair => pair.Item2 is not null))
        {
            Compare(ApiDescription.TypeName(ours), Constraints(ours.GetGenericArguments()), Constraints(theirs!.GetGenericArguments()));
            var published = Methods(theirs).ToLookup(ApiDescription.Signature);
            foreach (var method in Methods(ours))
            {
                var signature = ApiDescription.Signature(method);
                foreach (var other in published[signature])
                {
                    Compare(signature, Constraints(method.GetGenericArguments()), Constraints(other.GetGenericArguments()));
                    Compare($"the tuple of {signature}", TupleNames(method), TupleNames(other));
                }
            }
        }

        Assert.That(differences, Is.Empty, () => string.Join('\n', differences));
        Assert.That(compared, Is.GreaterThan(15), "some have a constraint or a tuple with names");

        void Compare(string what, string here, string there)
        {
            compared += there.Length > 0 ? 1 : 0;
            if (here != there)
            {
                differences.Add($"{what}: '{here}' here, '{there}' there");
            }
        }
    }

    [Test]
    public void The_published_package_is_the_version_that_the_build_takes()
    {
        var versions = System.Xml.Linq.XDocument.Load(Path.Combine(SharedFiles.Root, "Directory.Packages.props"))
            .Descendants("TorchSharpVersion").Select(static e => e.Value);
        Assert.That(versions, Does.Contain(PublishedTorchSharp.Version));
    }

    [Test]
    public void The_surface_is_seen_whole()
    {
        var members = s_ours.Value.SelectMany(static type => type.Members.Select(member => $"{type.Name}: {member}")).ToArray();
        Assert.That(members, Has.Length.GreaterThan(400));
        Assert.That(members, Does.Contain(
            "TorchSharp.torch.nn.functional: M public static TorchSharp.torch.Tensor dropout(TorchSharp.torch.Tensor input, System.Double p=0.5, System.Boolean training=true, System.Boolean inplace=false)"));
        Assert.That(members, Does.Contain("TorchSharp.torch.nn.Reduction: F Sum = 2"));
        Assert.That(members, Does.Contain("TorchSharp.torch.nn.Module: F System.String name"));
        Assert.That(members, Does.Contain("TorchSharp.Modules.ModuleList<T>: P public T Item[System.Int32 index] { get; set; }"));
        Assert.That(members, Does.Contain("TorchSharp.torch.Tensor: M public static TorchSharp.torch.Tensor op_Addition(System.Double left, TorchSharp.torch.Tensor right)"));
    }

    [Test]
    public void A_listing_of_itself_shows_no_difference()
    {
        Assert.That(ApiComparison.Differences(s_ours.Value, new ApiListing(s_ours.Value)), Is.Empty);
    }

    [TestCase("System.Double p=0.5, System.Boolean training=true", "System.Double p=0.1, System.Boolean training=true", "functional differs: M public static TorchSharp.torch.Tensor dropout", TestName = "Another_default_is_named")]
    [TestCase("dropout(TorchSharp.torch.Tensor input,", "dropout(TorchSharp.torch.Tensor x,", "functional differs: M public static TorchSharp.torch.Tensor dropout", TestName = "Another_name_of_a_parameter_is_named")]
    [TestCase("M public TorchSharp.torch.Tensor mm(TorchSharp.torch.Tensor target)", "M public TorchSharp.torch.Tensor mm(TorchSharp.Scalar target)", "torch.Tensor differs: M public TorchSharp.torch.Tensor mm(", TestName = "Another_type_of_a_parameter_is_named")]
    [TestCase("M public static System.Boolean is_grad_enabled()", "M public System.Boolean is_grad_enabled()", "torch differs: M public static System.Boolean is_grad_enabled()", TestName = "A_static_member_that_is_not_static_there_is_named")]
    [TestCase("M public virtual System.Void train(", "M public System.Void train(", "nn.Module differs: M public virtual System.Void train(", TestName = "A_virtual_member_that_is_not_virtual_there_is_named")]
    [TestCase("M public TorchSharp.torch.Tensor exp2()", "M public TorchSharp.torch.Tensor exponent()", "torch.Tensor has no such member there: M public TorchSharp.torch.Tensor exp2()", TestName = "A_member_that_is_not_there_is_named")]
    [TestCase("P public System.Int64 ndim { get; }", "P public System.Int32 ndim { get; }", "torch.Tensor differs: P public System.Int64 ndim { get; }", TestName = "Another_type_of_a_property_is_named")]
    [TestCase("P public System.Boolean requires_grad { get; set; }", "P public System.Boolean requires_grad { get; }", "torch.Tensor differs: P public System.Boolean requires_grad { get; set; }", TestName = "A_setter_that_is_not_there_is_named")]
    [TestCase("F BFloat16 = 15", "F BFloat16 = 16", "torch.ScalarType differs: F BFloat16 = 15", TestName = "Another_value_of_an_enum_is_named")]
    [TestCase("T sealed class TorchSharp.Scalar :", "T class TorchSharp.Scalar :", "TorchSharp.Scalar is a sealed class here and a class there", TestName = "Another_kind_of_type_is_named")]
    [TestCase("T class TorchSharp.Modules.Parameter : TorchSharp.torch.Tensor, System.IDisposable", "T class TorchSharp.Modules.Parameter : System.IDisposable", "TorchSharp.Modules.Parameter derives from TorchSharp.torch.Tensor here and not there", TestName = "A_base_that_is_not_there_is_named")]
    [TestCase("T sealed class TorchSharp.Scalar : System.IDisposable", "T sealed class TorchSharp.Scalar : System.ICloneable, System.IDisposable", "TorchSharp.Scalar derives from System.ICloneable there and not here", TestName = "An_interface_that_is_missing_here_is_named")]
    [TestCase("T class TorchSharp.LifetimeStatistics", "T class TorchSharp.LifeStatistics", "TorchSharp.LifetimeStatistics: there is no such type", TestName = "A_type_that_is_not_there_is_named")]
    [TestCase("M public static System.Int64 ToInt64(TorchSharp.Scalar value)", "M public static System.Int64 ToInt64(ref TorchSharp.Scalar value)", "ScalarExtensionMethods differs: M public static System.Int64 ToInt64(", TestName = "Another_way_of_passing_is_named")]
    public void A_difference_is_named(string here, string there, string expected)
    {
        var text = Listed(s_ours.Value).Replace(here, there, StringComparison.Ordinal);
        Assert.That(text, Does.Contain(there));
        var differences = ApiComparison.Differences(s_ours.Value, ApiListing.Parse(text.Split('\n')));
        Assert.That(differences, Has.One.Contains(expected));
    }

    [Test]
    public void All_differences_are_named_at_once()
    {
        var text = Listed(s_ours.Value)
            .Replace("F BFloat16 = 15", "F BFloat16 = 16", StringComparison.Ordinal)
            .Replace("M public TorchSharp.torch.Tensor exp2()\n  ", "", StringComparison.Ordinal)
            .Replace("System.Double p=0.5", "System.Double p=0.1", StringComparison.Ordinal);
        Assert.That(ApiComparison.Differences(s_ours.Value, ApiListing.Parse(text.Split('\n'))), Has.Count.EqualTo(3));
    }

    private static IEnumerable<Type> Types() => ApiDescription.VisibleTypes(typeof(LibTorchRuntime).Assembly, "TorchSharp");

    private static string Constraints(IEnumerable<Type> parameters) => string.Join(' ', parameters.Select(static parameter =>
    {
        var attributes = parameter.GenericParameterAttributes;
        var isValue = attributes.HasFlag(GenericParameterAttributes.NotNullableValueTypeConstraint);
        var parts = new List<string>();
        if (isValue)
        {
            parts.Add(parameter.CustomAttributes.Any(static a => a.AttributeType.Name == "IsUnmanagedAttribute") ? "unmanaged" : "struct");
        }

        parts.AddRange(parameter.GetGenericParameterConstraints().Where(static c => c != typeof(ValueType)).Select(static c => "global::" + ApiDescription.TypeName(c)));
        if (attributes.HasFlag(GenericParameterAttributes.DefaultConstructorConstraint) && !isValue)
        {
            parts.Add("new()");
        }

        return parts.Count == 0 ? "" : $"where {parameter.Name} : {string.Join(", ", parts)}";
    }).Where(static clause => clause.Length > 0));

    private static IEnumerable<MethodInfo> Methods(Type type) => type
        .GetMethods(BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly)
        .Where(static m => m.IsPublic || m.IsFamily || m.IsFamilyOrAssembly);

    private static string TupleNames(MethodInfo method) =>
        string.Join(", ", method.ReturnParameter.GetCustomAttribute<TupleElementNamesAttribute>()?.TransformNames ?? []);

    private static string Listed(IEnumerable<ListedType> types) => string.Join('\n', types.SelectMany(static type =>
        type.Members.Select(static member => "  " + member)
            .Prepend($"T {type.Kind} {type.Name}{(type.Bases.Count == 0 ? "" : " : " + string.Join(", ", type.Bases))}")));
}
