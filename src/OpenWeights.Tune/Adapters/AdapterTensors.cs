using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Initial values of a tensor.</summary>
/// <param name="shape">Its shape.</param>
/// <param name="random">Random numbers of the run.</param>
/// <returns>The values, float32 on the CPU, in the current dispose scope.</returns>
internal delegate Tensor Fill(long[] shape, Generator random);

/// <summary>
/// Source of an adapter's tensors: initial values, a file, or shapes alone. The kinds ask it for each tensor by name and shape, so that what
/// they ask for is also what a file must have.
/// </summary>
internal abstract class AdapterTensors(CausalLanguageModel model) : IWholeWeights
{
    private readonly Dictionary<string, (Tensor Tensor, bool IsSaved)> _shared = [];

    /// <summary>Device of a tensor: that of the module it belongs to.</summary>
    /// <param name="name">Name of the tensor or its module.</param>
    internal Device DeviceOf(string name) => Model.DeviceOf(name);

    /// <summary>The base model.</summary>
    internal CausalLanguageModel Model { get; } = model;

    /// <summary>The tensors that several modules share, by their name in the file, and whether a file has them.</summary>
    internal IReadOnlyDictionary<string, (Tensor Tensor, bool IsSaved)> AllShared => _shared;

    /// <summary>Whether values are read or made; otherwise the tensors have a shape alone.</summary>
    internal virtual bool HasValues => true;

    /// <summary>Whether there is a file.</summary>
    internal virtual bool ReadsFile => false;

    /// <summary>The shape of a tensor in the file; null if the file does not have it, or there is none.</summary>
    /// <param name="name">Its name in PEFT's file without the prefix.</param>
    internal virtual IReadOnlyList<long>? StoredShape(string name) => null;

    /// <summary>A tensor, float32 (float64 in a float64 model) on the model's device and in no dispose scope; the caller takes ownership.</summary>
    /// <param name="name">Its name in PEFT's file without the prefix.</param>
    /// <param name="fill">Initial values.</param>
    /// <param name="shape">Its shape.</param>
    internal Tensor Take(string name, Fill fill, params long[] shape) => Take(name, fill, WideNumbers.Of(Model.DType), shape);

    /// <summary>A tensor of a type; see <see cref="Take(string, Fill, long[])"/>.</summary>
    internal abstract Tensor Take(string name, Fill fill, ScalarType type, params long[] shape);

    /// <summary>A tensor that a file may lack, because its values follow from the settings; otherwise as <see cref="Take(string, Fill, long[])"/>.</summary>
    /// <param name="name">Its name in PEFT's file without the prefix.</param>
    /// <param name="fill">Its values.</param>
    /// <param name="shape">Its shape.</param>
    internal abstract Tensor TakeOrMake(string name, Fill fill, params long[] shape);

    /// <summary>A tensor that follows from the settings and is in no file; null without values.</summary>
    /// <param name="module">Name of the module that it belongs to.</param>
    /// <param name="make">Computes it on the CPU.</param>
    internal virtual Tensor? Make(string module, Func<Tensor> make)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        return scope.Detach(make().to(DeviceOf(module)));
    }

    /// <summary>A further tensor that the file must have.</summary>
    /// <param name="name">Its name in PEFT's file without the prefix.</param>
    /// <param name="shape">Its shape.</param>
    internal virtual void Expect(string name, params long[] shape)
    {
    }

    /// <summary>A tensor that several modules share and that is not trained; <see cref="AllShared"/> has it.</summary>
    /// <param name="name">Its name in the file, such as base_model.vera_A.</param>
    /// <param name="required">Whether a file must have it.</param>
    /// <param name="saved">Whether it is saved.</param>
    /// <param name="fill">Its values.</param>
    /// <param name="shape">Its shape.</param>
    internal Tensor Shared(string name, bool required, bool saved, Fill fill, params long[] shape)
    {
        if (!_shared.TryGetValue(name, out var shared))
        {
            _shared[name] = shared = (required ? Take(name, fill, shape) : TakeOrMake(name, fill, shape), saved);
        }

        return shared.Tensor;
    }

    /// <summary>A trained parameter that several modules share; <see cref="AllShared"/> has it.</summary>
    /// <param name="name">Its name in the file, such as base_model.vblora_vector_bank.</param>
    /// <param name="fill">Initial values.</param>
    /// <param name="shape">Its shape.</param>
    internal Parameter SharedParameter(string name, Fill fill, params long[] shape)
    {
        if (!_shared.TryGetValue(name, out var shared))
        {
            _shared[name] = shared = (new Parameter(Take(name, fill, shape)), true);
        }

        return (Parameter)shared.Tensor;
    }

    /// <summary>A tensor of a shape without memory, float32 and in no dispose scope.</summary>
    /// <param name="shape">Its shape.</param>
    internal Tensor Meta(params long[] shape) => Meta(float32, shape);

    // More than any memory has; torch counts in 64 bits.
    private const double MostValues = 1e15;

    /// <inheritdoc cref="Meta(long[])"/>
    protected Tensor Meta(ScalarType type, long[] shape, string? name = null)
    {
        if (Array.Exists(shape, static size => size < 0) || shape.Aggregate(1.0, static (product, size) => product * size) > MostValues)
        {
            throw new InvalidDataException($"the adapter's settings ask for {(name is null ? "a tensor" : PeftFolder.FileName(name))} of shape [{string.Join(", ", shape)}], which is impossible; correct the ranks and sizes in its adapter_config.json");
        }

        using var scope = NewDisposeScope();
        return scope.Detach(MetaWeightSource.Zeros(type, Model.Device, shape));
    }

    /// <inheritdoc/>
    public abstract Parameter Whole(string fileName, nn.Module module, WeightSlot slot, bool required);

    /// <inheritdoc/>
    public virtual Parameter? Frozen(string fileName, WeightSlot slot) => null;

    /// <inheritdoc/>
    public virtual Tensor? BeforeTraining(string fileName, WeightSlot slot) => null;

    /// <summary>A parameter in no dispose scope.</summary>
    /// <param name="value">Its values.</param>
    /// <param name="trained">Whether it is trained.</param>
    protected static Parameter Parameter(Tensor value, bool trained = true)
    {
        var parameter = new Parameter(value, trained);
        _ = parameter.DetachFromDisposeScope();
        return parameter;
    }
}

/// <summary>Initial values of a new adapter.</summary>
/// <param name="model">The base model.</param>
/// <param name="random">Source of random numbers.</param>
internal class FreshTensors(CausalLanguageModel model, Generator random) : AdapterTensors(model)
{
    /// <summary>Source of random numbers.</summary>
    protected Generator Random { get; } = random;

    internal override Tensor Take(string name, Fill fill, ScalarType type, params long[] shape)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        return scope.Detach(fill(shape, Random).to(type).to(DeviceOf(name)).contiguous());
    }

    internal override Tensor TakeOrMake(string name, Fill fill, params long[] shape) => Take(name, fill, shape);

    public override Parameter Whole(string fileName, nn.Module module, WeightSlot slot, bool required)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        return Parameter(slot.Own is { } own ? own.detach().clone() : ((LinearLayer)module).DenseRows(0, ((LinearLayer)module).OutFeatures).to(Model.DType));
    }
}

/// <summary>Tensors of a file written by PEFT or this program; the file has been checked against the model.</summary>
/// <param name="model">The base model.</param>
/// <param name="file">The file.</param>
internal class FileTensors(CausalLanguageModel model, ITensorSource file) : AdapterTensors(model)
{
    internal override bool ReadsFile => true;

    internal override IReadOnlyList<long>? StoredShape(string name) => file.TryGetTensor(PeftFolder.FileName(name), out var entry) ? entry.Shape : null;

    internal override Tensor Take(string name, Fill fill, ScalarType type, params long[] shape)
    {
        using var scope = NewDisposeScope();
        return scope.Detach(TensorFiles.Read(file, PeftFolder.FileName(name), type, DeviceOf(name)));
    }

    internal override Tensor TakeOrMake(string name, Fill fill, params long[] shape)
    {
        if (file.TryGetTensor(PeftFolder.FileName(name), out _))
        {
            return Read(name);
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using var random = new Generator(0);
        return scope.Detach(fill(shape, random).to(WideNumbers.Of(Model.DType), DeviceOf(name)).contiguous());
    }

    // With bias lora_only PEFT trains biases but does not save them; the base model's are used.
    public override Parameter Whole(string fileName, nn.Module module, WeightSlot slot, bool required) =>
        file.TryGetTensor(PeftFolder.FileName(fileName), out _)
            ? Parameter(TensorFiles.Read(file, PeftFolder.FileName(fileName), slot.Own?.dtype ?? Model.DType, DeviceOf(fileName)))
            : Parameter(slot.Own!.detach().clone());

    public override Parameter? Frozen(string fileName, WeightSlot slot)
    {
        if (!file.TryGetTensor(PeftFolder.FileName(fileName), out _))
        {
            return null;
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var value = TensorFiles.Read(file, PeftFolder.FileName(fileName), slot.Own?.dtype ?? Model.DType, DeviceOf(fileName));
        return slot.Own is { } own && value.shape.SequenceEqual(own.shape) && value.eq(own).all().item<bool>() ? null : Parameter(value, trained: false);
    }

    public override Tensor? BeforeTraining(string fileName, WeightSlot slot)
    {
        using var scope = NewDisposeScope();
        return file.TryGetTensor(PeftFolder.FileName(fileName), out _) ? scope.Detach(TensorFiles.Read(file, PeftFolder.FileName(fileName), slot.Own?.dtype ?? Model.DType, DeviceOf(fileName))) : null;
    }

    /// <summary>A tensor of the file, float32 on the model's device and in no dispose scope.</summary>
    /// <param name="name">Its name without PEFT's prefix.</param>
    protected Tensor Read(string name) => Take(name, Fills.Zeros);
}

/// <summary>Tensors with a shape but no memory, for estimating a run's memory.</summary>
/// <param name="model">The base model.</param>
internal class MetaTensors(CausalLanguageModel model) : AdapterTensors(model)
{
    internal override bool HasValues => false;

    internal override Tensor Take(string name, Fill fill, ScalarType type, params long[] shape) => Meta(type, shape, name);

    internal override Tensor TakeOrMake(string name, Fill fill, params long[] shape) => Meta(float32, shape, name);

    internal override Tensor? Make(string module, Func<Tensor> make) => null;

    public override Parameter Whole(string fileName, nn.Module module, WeightSlot slot, bool required)
    {
        using var scope = NewDisposeScope();
        var shape = slot.Own?.shape ?? [((LinearLayer)module).OutFeatures, ((LinearLayer)module).InFeatures];
        return Parameter(MetaWeightSource.Zeros(slot.Own?.dtype ?? Model.DType, Model.Device, shape));
    }
}

/// <summary>Notes which tensors an adapter asks for, to compare them with its file.</summary>
/// <param name="model">The base model.</param>
/// <param name="file">The file.</param>
internal sealed class AskedTensors(CausalLanguageModel model, ITensorSource file) : MetaTensors(model)
{
    /// <summary>What was asked for.</summary>
    internal ExpectedTensors Asked { get; } = new();

    internal override bool ReadsFile => true;

    internal override IReadOnlyList<long>? StoredShape(string name) => file.TryGetTensor(PeftFolder.FileName(name), out var entry) ? entry.Shape : null;

    internal override Tensor Take(string name, Fill fill, ScalarType type, params long[] shape)
    {
        Expect(name, shape);
        return Meta(type, shape, name);
    }

    internal override Tensor TakeOrMake(string name, Fill fill, params long[] shape)
    {
        Asked.Allow(name, shape);
        return Meta(float32, shape, name);
    }

    internal override void Expect(string name, params long[] shape) => Asked.Require(name, shape);

    public override Parameter Whole(string fileName, nn.Module module, WeightSlot slot, bool required)
    {
        var whole = base.Whole(fileName, module, slot, required);
        if (required)
        {
            Asked.Require(fileName, whole.shape);
        }
        else
        {
            Asked.AllowBias(fileName, whole.shape);
        }

        return whole;
    }

    public override Parameter? Frozen(string fileName, WeightSlot slot)
    {
        Asked.Allow(fileName, slot.Own?.shape ?? [Model.VocabularySize, Model.Config.HiddenSize]);
        return null;
    }
}
