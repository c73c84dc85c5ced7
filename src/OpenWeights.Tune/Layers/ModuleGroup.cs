using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers;

/// <summary>A module without a computation of its own: a step in the dotted names of the modules below it.</summary>
internal sealed class ModuleGroup() : nn.Module(nameof(ModuleGroup));

/// <summary>Registers modules under the names that a checkpoint has for them.</summary>
internal static class ModuleNames
{
    /// <summary>
    /// Registers a module. Each step of a dotted name, such as router.gate, becomes a module, since torch allows no dots in names. With an empty
    /// name the modules within it are registered in the parent: the checkpoint has no step for the module itself.
    /// </summary>
    /// <param name="parent">The parent.</param>
    /// <param name="name">Name within the parent.</param>
    /// <param name="module">The module.</param>
    /// <returns>The module.</returns>
    internal static T Register<T>(this nn.Module parent, string name, T module)
        where T : nn.Module
    {
        if (name.Length == 0)
        {
            foreach (var (inner, child) in module.named_children())
            {
                parent.register_module(inner, child);
            }

            return module;
        }

        (parent, name) = Find(parent, name);
        parent.register_module(name, module);
        return module;
    }

    /// <summary>The full name of a module within another.</summary>
    /// <param name="parent">Full name of the parent.</param>
    /// <param name="name">Name within the parent; empty for the parent's own.</param>
    internal static string Within(string parent, string name) => name.Length == 0 ? parent : $"{parent}.{name}";

    /// <summary>Registers a parameter.</summary>
    /// <param name="parent">The parent.</param>
    /// <param name="name">Name within the parent; it may be dotted.</param>
    /// <param name="parameter">The parameter.</param>
    /// <returns>The parameter.</returns>
    internal static Parameter RegisterParameter(this nn.Module parent, string name, Parameter parameter)
    {
        (parent, name) = Find(parent, name);
        parent.register_parameter(name, parameter);
        return parameter;
    }

    /// <summary>Registers a buffer: a tensor that is saved with the model but never trained.</summary>
    /// <param name="parent">The parent.</param>
    /// <param name="name">Name within the parent; it may be dotted.</param>
    /// <param name="buffer">The tensor.</param>
    /// <returns>The tensor.</returns>
    internal static Tensor RegisterBuffer(this nn.Module parent, string name, Tensor buffer)
    {
        (parent, name) = Find(parent, name);
        parent.register_buffer(name, buffer);
        return buffer;
    }

    private static (nn.Module Parent, string Name) Find(nn.Module parent, string name)
    {
        while (name.Split('.', 2) is [var first, var rest])
        {
            (parent, name) = (Group(parent, first), rest);
        }

        return (parent, name);
    }

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
