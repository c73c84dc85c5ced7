namespace OpenWeights.Tune.Kernels;

/// <summary>Work of several stages, each of which needs all that the one before it gave. A <see cref="ThreadTeam"/> does it.</summary>
internal interface IStagedWork
{
    /// <summary>The number of stages.</summary>
    int Stages { get; }

    /// <summary>Into how many parts a stage is cut, fewer than 2^15; 0 for a stage that there is nothing to do in.</summary>
    /// <param name="stage">The stage.</param>
    int Parts(int stage);

    /// <summary>Does a part of a stage; threads do parts side by side.</summary>
    /// <param name="stage">The stage.</param>
    /// <param name="part">The part.</param>
    void Run(int stage, int part);

    /// <summary>What one thread does when all parts of a stage are done, before the next stage begins.</summary>
    /// <param name="stage">The stage.</param>
    void Finish(int stage);
}
