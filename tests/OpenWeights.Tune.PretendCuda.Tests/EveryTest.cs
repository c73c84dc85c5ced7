using NUnit.Framework;
using OpenWeights.Tune.PretendCuda.Tests;

#pragma warning disable CA1050 // in no namespace, so that it is for all of them
/// <summary>Runs ahead of all tests, in whatever namespace they are.</summary>
[SetUpFixture]
public sealed class EveryTest
{
    [OneTimeSetUp]
    public void Load()
    {
        PretendDevice.Load();
        Environment.SetEnvironmentVariable("OWT_TEST_DEVICE", "cuda");
    }
}
