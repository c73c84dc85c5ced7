using OpenWeights.Tune.Cli;

return CommandLine.Run(args);
