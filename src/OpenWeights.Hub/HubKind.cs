namespace OpenWeights.Hub;

/// <summary>What a repository of the Hub holds.</summary>
public enum HubKind
{
    /// <summary>A model.</summary>
    Model,

    /// <summary>A data set.</summary>
    DataSet,
}

/// <summary>How the Hub spells the kinds.</summary>
internal static class HubKinds
{
    /// <summary>The part of an address of the interface, and of a folder's name in the cache: models or datasets.</summary>
    internal static string Plural(this HubKind kind) => kind == HubKind.DataSet ? "datasets" : "models";

    /// <summary>What comes before the name in an address of a file.</summary>
    internal static string Prefix(this HubKind kind) => kind == HubKind.DataSet ? "datasets/" : "";

    /// <summary>The kind in words.</summary>
    internal static string Words(this HubKind kind) => kind == HubKind.DataSet ? "data set" : "model";
}
