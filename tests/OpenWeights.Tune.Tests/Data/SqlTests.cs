using System.Diagnostics;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Sql;

namespace OpenWeights.Tune.Tests.Data;

/// <summary>Parquet and SQL through DuckDB's own library, which scripts/duckdb fetches; skipped, with the reason, where it cannot.</summary>
public sealed class SqlTests
{
    [OneTimeSetUp]
    public void Fetch()
    {
        if (OperatingSystem.IsWindows())
        {
            Assert.Ignore("scripts/duckdb runs on Linux and macOS");
        }

        using var fetch = Process.Start(new ProcessStartInfo("sh", [Path.Combine(SharedFiles.Root, "scripts", "duckdb")]) { RedirectStandardError = true, RedirectStandardOutput = true })!;
        var output = fetch.StandardOutput.ReadToEndAsync();
        var error = fetch.StandardError.ReadToEnd();
        fetch.WaitForExit();
        if (fetch.ExitCode != 0)
        {
            Assert.Ignore($"DuckDB's library is not here: {error}{output.Result}");
        }
    }

    [Test]
    public void Parquet_gives_the_rows_that_were_written()
    {
        using var folder = new TemporaryFolder();
        var path = folder.At("it's rows.parquet");
        Copy($"SELECT 'question ' || i AS prompt, repeat('é', i % 5 + 1) AS completion, [{{'role': 'user', 'content': 'x' || i}}] AS list FROM range(3000) AS t(i)", path);
        var rows = DataFile.Read(path).ToList();
        Assert.That(rows.Select(static r => (r.Text("prompt"), r.Text("completion"))), Is.EqualTo(Enumerable.Range(0, 3000).Select(static i => ($"question {i}", new string('é', (i % 5) + 1)))));
        Assert.That(rows[7].Json["list"]!.ToJsonString(), Is.EqualTo("""[{"role":"user","content":"x7"}]"""));
        Assert.That(rows[7].Place, Is.EqualTo($"{path}, row 8"));
        Assert.That(Rows.Read(path).Train.Rows, Has.Count.EqualTo(3000), "completion");
    }

    [Test]
    public void A_query_selects_filters_and_joins_files()
    {
        using var folder = new TemporaryFolder();
        var questions = folder.Write("questions.jsonl", "{\"id\": 1, \"q\": \"one?\"}\n{\"id\": 2, \"q\": \"two?\"}\n{\"id\": 3, \"q\": \"three?\"}\n");
        var answers = folder.Write("answers.csv", "id,a\n1,uno\n3,tres\n");
        var source = new DataSource { Path = questions, Query = $"SELECT q AS prompt, a AS completion FROM data JOIN read_csv('{answers}') USING (id) WHERE id > 1 ORDER BY id" };
        var rows = Rows.Read("", section: new DataSection { Train = [source], Packing = false }).Train.Rows;
        Assert.That(Rows.Text(rows.Single()), Is.EqualTo("three?tres" + CharacterTokenizer.End));
        Assert.That(Rows.Trained(rows.Single()), Is.EqualTo("tres" + CharacterTokenizer.End));
    }

    [TestCase("SELECT nothing FROM data", "nothing")]
    [TestCase("SELEKT 1", "syntax error")]
    [TestCase("SELECT * FROM read_csv('/no/such/file.csv')", "no/such/file.csv")]
    public void A_query_that_is_wrong_is_told_in_DuckDBs_words(string query, string message)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", "{\"text\": \"x\"}\n");
        Assert.That(() => DataFile.Read(new DataSource { Path = path, Query = query }).Count(), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(message));
    }

    [Test]
    public void A_file_that_is_no_Parquet_is_told()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.parquet", "PAR1 this is no such file PAR1");
        Assert.That(() => DataFile.Read(path).Count(), Throws.InstanceOf<InvalidDataException>().With.Message.StartsWith(path));
    }

    private static void Copy(string select, string path)
    {
        using var query = new DuckDbQuery(DuckDb.Get("a test"), [$"COPY ({select}) TO '{path.Replace("'", "''", StringComparison.Ordinal)}' (FORMAT parquet)"], "SELECT 1", "a test");
    }
}
