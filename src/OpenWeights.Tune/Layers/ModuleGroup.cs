using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers;

/// <summary>A module without a computation of its own: a step in the dotted names of the modules below it.</summary>
internal sealed class ModuleGroup() : nn.Module(nameof(ModuleGroup));

/// <summary>Registers modules under the names that a checkpoint has for them.</summary>
internal static class ModuleNames
{
    /// <summary>Registers a module. Each step of a dotted name, such as router.gate, becomes a module, since torch allows no dots in names.</summary>
    /// <param name="parent">The parent.</param>
    /// <param name="name">Name within the parent.</param>
    /// <param name="module">The module.</param>
    /// <returns>The module.</returns>
    internal static T Register<T>(this nn.Module parent, string name, T module)
        where T : nn.Module
    {
        while (name.Split('.', 2) is [var first, var rest])
        {
            (parent, name) = (Group(parent, first), rest);
        }

        parent.register_module(name, module);
        return module;
    }

    /// <summary>Registers a part of a module; one with an empty name has its modules registered in the parent, as if they were the parent's own.</summary>
    /// <param name="parent">The parent.</param>
    /// <param name="name">Name within the parent; it may be dotted, or empty.</param>
    /// <param name="part">The part.</param>
    /// <returns>The part.</returns>
    internal static T RegisterPart<T>(this nn.Module parent, string name, T part)
        where T : nn.Module
    {
        if (name.Length > 0)
        {
            return parent.Register(name, part);
        }

        foreach (var (child, module) in part.named_children())
        {
            parent.register_module(child, module);
        }

        return part;
    }

    /// <summary>The full name of a part whose name within its parent may be empty.</summary>
    /// <param name="parent">Name of the parent.</param>
    /// <param name="name">Name within the parent, or empty.</param>
    internal static string Within(string parent, string name) => name.Length > 0 ? $"{parent}.{name}" : parent;

    private static nn.Module Group(nn.Module parent, string name)
    {
        if (parent.named_children().FirstOrDefault(child => child.name == name).module is { } made)
        {
            return made;
        }

        var group = new ModuleGroup();
        parent.register_module(name, group);
        return group;
    }
}
