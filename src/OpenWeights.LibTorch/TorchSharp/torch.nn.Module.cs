using System.Reflection;
using TorchSharp.Modules;
using TorchSharp.Utils;

namespace TorchSharp;

public static partial class torch
{
    public static partial class nn
    {
        /// <summary>A part of a model: named parameters, buffers and submodules.</summary>
        public class Module : IDisposable
        {
            private readonly List<(string Name, Module Module)> _modules = [];
            private readonly List<(string Name, Parameter Parameter)> _parameters = [];
            private readonly List<(string Name, Tensor Buffer)> _buffers = [];
            private bool _componentsRegistered;
            private bool _disposed;

            protected Module(string name) => this.name = name;

            ~Module() => Dispose(false);

            public virtual bool training { get; private set; } = true;

            protected string? name;

            public virtual void train(bool train = true)
            {
                training = train;
                foreach (var (_, module) in _modules)
                {
                    module.train(train);
                }
            }

            public virtual void register_module(string name, Module submodule)
            {
                ArgumentException.ThrowIfNullOrEmpty(name);
                ArgumentNullException.ThrowIfNull(submodule);
                if (name.Contains('.', StringComparison.Ordinal))
                {
                    throw new ArgumentException($"module name can't contain \".\", got: {name}");
                }

                if (_modules.Any(m => m.Name == name))
                {
                    throw new InvalidOperationException($"Sub-module {name} is already registered.");
                }

                submodule.RegisterComponents();
                _modules.Add((name, submodule));
            }

            public virtual void register_parameter(string name, Parameter param)
            {
                ArgumentNullException.ThrowIfNull(param);
                if (_parameters.Any(p => p.Name == name))
                {
                    throw new InvalidOperationException($"Parameter {name} is already registered.");
                }

                _parameters.Add((name, param));
            }

            public virtual void register_buffer(string name, Tensor tensor, bool persistent = true)
            {
                ArgumentNullException.ThrowIfNull(tensor);
                if (_buffers.Any(b => b.Name == name))
                {
                    throw new InvalidOperationException($"Tensor {name} is already registered.");
                }

                _buffers.Add((name, tensor));
            }

            public virtual IEnumerable<(string name, Module module)> named_children() => _modules;

            public virtual IEnumerable<(string name, Tensor buffer)> named_buffers(bool recurse = true, bool include_nonpersistent = true)
            {
                foreach (var own in _buffers)
                {
                    yield return own;
                }

                foreach (var (prefix, module) in recurse ? _modules : [])
                {
                    foreach (var (name, buffer) in module.named_buffers())
                    {
                        yield return ($"{prefix}.{name}", buffer);
                    }
                }
            }

            public virtual IEnumerable<(string name, Module module)> named_modules()
            {
                foreach (var child in _modules)
                {
                    yield return child;
                }

                foreach (var (name, module) in _modules)
                {
                    foreach (var (inner, deeper) in module.named_modules())
                    {
                        yield return ($"{name}.{inner}", deeper);
                    }
                }
            }

            public virtual IEnumerable<(string name, Parameter parameter)> named_parameters(bool recurse = true)
            {
                var seen = new HashSet<Parameter>(ReferenceEqualityComparer.Instance);
                foreach (var own in _parameters)
                {
                    if (!own.Parameter.IsInvalid && seen.Add(own.Parameter))
                    {
                        yield return own;
                    }
                }

                foreach (var (prefix, module) in recurse ? _modules : [])
                {
                    foreach (var (name, parameter) in module.named_parameters())
                    {
                        if (seen.Add(parameter))
                        {
                            yield return ($"{prefix}.{name}", parameter);
                        }
                    }
                }
            }

            public virtual IEnumerable<Parameter> parameters(bool recurse = true) => named_parameters(recurse).Select(static p => p.parameter);

            public virtual void zero_grad(bool set_to_none = true)
            {
                foreach (var parameter in parameters())
                {
                    using var grad = parameter.grad;
                    if (set_to_none)
                    {
                        parameter.grad = null;
                    }
                    else
                    {
                        _ = grad?.zero_();
                    }
                }
            }

            public void Dispose()
            {
                Dispose(true);
                GC.SuppressFinalize(this);
            }

            protected virtual void Dispose(bool disposing)
            {
                if (!disposing || _disposed)
                {
                    return;
                }

                _disposed = true;
                foreach (var (_, buffer) in _buffers)
                {
                    buffer.Dispose();
                }

                foreach (var (_, parameter) in _parameters)
                {
                    parameter.Dispose();
                }

                foreach (var (_, module) in _modules)
                {
                    module.Dispose();
                }
            }

            /// <summary>Registers the modules, parameters and tensors in fields, by the field's name or its <see cref="ComponentNameAttribute"/>.</summary>
            protected virtual void RegisterComponents()
            {
                if (_componentsRegistered)
                {
                    return;
                }

                _componentsRegistered = true;
                for (var type = GetType(); type is not null && type != typeof(Module); type = type.BaseType)
                {
                    foreach (var field in type.GetFields(BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.DeclaredOnly))
                    {
                        RegisterField(field.GetCustomAttribute<ComponentNameAttribute>()?.Name is { Length: > 0 } given ? given : field.Name, field.GetValue(this));
                    }
                }
            }

            private void RegisterField(string field, object? value)
            {
                if (_modules.Any(m => m.Name == field) || _parameters.Any(p => p.Name == field) || _buffers.Any(b => b.Name == field))
                {
                    return;
                }

                switch (value)
                {
                    case Module module:
                        register_module(field, module);
                        break;
                    case Parameter parameter:
                        register_parameter(field, parameter);
                        break;
                    case Tensor tensor:
                        register_buffer(field, tensor);
                        break;
                }
            }
        }
    }
}
