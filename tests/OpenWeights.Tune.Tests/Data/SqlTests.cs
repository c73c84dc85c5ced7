using DuckDB.NET.Data;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Formats;

namespace OpenWeights.Tune.Tests.Data;

/// <summary>Parquet files and SQL queries.</summary>
public sealed class SqlTests
{
    [Test]
    public void Parquet_gives_the_rows_that_were_written()
    {
        using var folder = new TemporaryFolder();
        var path = folder.At("it's [rows] * of?.parquet");
        Copy("SELECT 'question ' || i AS prompt, repeat('é', i % 5 + 1) AS completion, [{'role': 'user', 'content': 'x' || i}] AS list FROM range(3000) AS t(i)", path);
        var rows = DataFile.Read(path).ToList();
        Assert.That(rows.Select(static r => (r.Text("prompt"), r.Text("completion"))), Is.EqualTo(Enumerable.Range(0, 3000).Select(static i => ($"question {i}", new string('é', (i % 5) + 1)))));
        Assert.That(rows[7].Json["list"]!.ToJsonString(), Is.EqualTo("""[{"role":"user","content":"x7"}]"""));
        Assert.That(rows[7].Place, Is.EqualTo($"{path}, row 8"));
        Assert.That(Rows.Read(path).Train.Rows, Has.Count.EqualTo(3000), "completion");
    }

    [Test]
    public void Rows_of_many_groups_come_in_their_order()
    {
        using var folder = new TemporaryFolder();
        var path = folder.At("rows.parquet");
        Copy("SELECT i FROM range(300000) AS t(i)", path, "ROW_GROUP_SIZE 10000");
        Assert.That(DataFile.Read(path).Select(static r => r.Json["i"]!.GetValue<int>()), Is.EqualTo(Enumerable.Range(0, 300_000)));
    }

    [TestCase("SELECT 'x' AS t, 'y' AS owt_rows", """{"t":"x","owt_rows":"y"}""", Description = "a column named like a table")]
    [TestCase("SELECT 'nan'::DOUBLE AS a, ['-inf'::DOUBLE, 1.5] AS b, 'NaN, \"Infinity\"' AS c", """{"a":null,"b":[null,1.5],"c":"NaN, \u0022Infinity\u0022"}""", Description = "what pandas leaves for a missing number")]
    [TestCase("SELECT 18446744073709551615::UBIGINT AS a, 0.1::DOUBLE AS b, NULL AS c, true AS d", """{"a":18446744073709551615,"b":0.1,"c":null,"d":true}""")]
    [TestCase("SELECT TIMESTAMP '2020-01-02 03:04:05' AS a, MAP {'k': 1} AS b, chr(1) || chr(10) AS c", """{"a":"2020-01-02 03:04:05","b":{"k":1},"c":"\u0001\n"}""")]
    public void A_row_is_what_was_written_whatever_its_types(string select, string json)
    {
        using var folder = new TemporaryFolder();
        var path = folder.At("rows.parquet");
        Copy(select, path);
        Assert.That(DataFile.Read(path).Single().Json.ToJsonString(), Is.EqualTo(json));
    }

    [Test]
    public void A_folders_name_is_no_column()
    {
        using var folder = new TemporaryFolder();
        var path = Path.Combine(Directory.CreateDirectory(folder.At("year=2020")).FullName, "rows.parquet");
        Copy("SELECT 1 AS a", path);
        Assert.That(DataFile.Read(path).Single().Json.ToJsonString(), Is.EqualTo("""{"a":1}"""));
    }

    [Test]
    public void A_query_selects_filters_and_joins_files()
    {
        using var folder = new TemporaryFolder();
        var questions = folder.Write("questions.jsonl", "{\"id\": 1, \"q\": \"one?\"}\n{\"id\": 2, \"q\": \"two?\"}\n{\"id\": 3, \"q\": \"three?\"}\n");
        var answers = folder.Write("answers.csv", "id,a\n1,uno\n3,tres\n");
        var source = new DataSource { Path = questions, Query = $"SELECT q AS prompt, a AS completion FROM data JOIN read_csv('{answers}') USING (id) WHERE id > 1 ORDER BY id -- the last one" };
        var rows = Rows.Read("", section: new DataSection { Train = [source], Packing = false }).Train.Rows;
        Assert.That(Rows.Text(rows.Single()), Is.EqualTo("three?tres" + CharacterTokenizer.End));
        Assert.That(Rows.Trained(rows.Single()), Is.EqualTo("tres" + CharacterTokenizer.End));
    }

    [TestCase("rows.jsonl", """{"t":"2020-01-01T00:00:00Z","u":"550E8400-E29B-41D4-A716-446655440000","l":[1,"a",null],"m":[{"role":"user","content":"1999-01-01"}]}""")]
    [TestCase("rows.json", """[{"t":"2020-01-01T00:00:00Z","u":"550E8400-E29B-41D4-A716-446655440000"}]""")]
    public void A_querys_data_keeps_texts_as_they_stand_in_JSON(string name, string content)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write(name, content);
        Assert.That(Query(path, "SELECT * FROM data"), Is.EqualTo(DataFile.Read(path).Select(static r => r.Json.ToJsonString())));
    }

    [TestCase("rows.csv", "id,text\n1,\"a\nb\"\n2,\"x,\"\"y\"\"\"\n3,\n4,\"\"\n5,NULL\n# 6,c\n")]
    [TestCase("rows.tsv", "id\ttext\n1\t\"a\tb\"\n2\t 'x\n")]
    public void A_querys_data_keeps_cells_as_they_stand_in_a_table(string name, string content)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write(name, content);
        Assert.That(Query(path, "SELECT * FROM data"), Is.EqualTo(DataFile.Read(path).Select(static r => r.Json.ToJsonString())));
    }

    [Test]
    public void A_querys_data_may_be_compressed_whatever_its_name()
    {
        using var folder = new TemporaryFolder();
        var path = folder.At("rows.jsonl");
        using (var zip = new System.IO.Compression.GZipStream(File.Create(path), System.IO.Compression.CompressionLevel.Fastest))
        {
            zip.Write("{\"a\": 1}\n"u8);
        }

        Assert.That(Query(path, "SELECT a + 1 AS b FROM data"), Is.EqualTo(new[] { """{"b":2}""" }));
    }

    [TestCase("SELECT nothing FROM data", "Referenced column \"nothing\" not found")]
    [TestCase("SELEKT 1", "syntax error at or near \"SELEKT\"")]
    [TestCase("SELECT * FROM read_csv('/no/such/file.csv')", "no/such/file.csv")]
    [TestCase("SELECT error('half way') FROM data", "half way")]
    [TestCase("SELECT 1; SELECT 2", "Expected a single SELECT statement")]
    [TestCase("COPY (SELECT 1) TO 'owt-sql-test.csv'", "Expected a single SELECT statement")]
    [TestCase("SELECT 1) AS x; COPY (SELECT 1) TO 'owt-sql-test.csv'; SELECT * FROM (SELECT 2", "syntax error")]
    [TestCase("SELECT * FROM 'https://example.invalid/rows.parquet'", "requires the extension httpfs to be loaded")]
    public void A_query_that_is_wrong_is_told_in_a_sentence_of_DuckDBs(string query, string message)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", "{\"text\": \"x\"}\n");
        var error = Assert.Throws<InvalidDataException>(() => Query(path, query));
        Assert.That(error!.Message, Does.StartWith($"query of {path}: ").And.Contain(message).And.EndWith(".").And.Not.Contain("\n").And.Not.Contain("owt_"));
        Assert.That(File.Exists("owt-sql-test.csv"), Is.False);
    }

    [TestCase("rows.jsonl", "{\"a\": 1}\n{\"a\": nope}\n", "Malformed JSON")]
    [TestCase("rows.jsonl", "[1]\n", "a row must be an object")]
    [TestCase("rows.jsonl", "", "the file contains no rows")]
    [TestCase("rows.csv", "id,text\n1,\"a\"b\"\n2,ok\n", "rows.csv")]
    public void Data_of_a_query_that_cannot_be_read_is_told(string name, string content, string message)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write(name, content);
        var error = Assert.Throws<InvalidDataException>(() => Query(path, "SELECT * FROM data"));
        Assert.That(error!.Message, Does.Contain(path).And.Contain(message).And.Not.Contain("\n"));
        Assert.That(error.Message, Has.Length.LessThan(400));
    }

    [Test]
    public void What_does_not_fit_into_memory_leaves_no_file_behind()
    {
        using var folder = new TemporaryFolder();
        var before = Directory.GetFileSystemEntries(Environment.CurrentDirectory);
        Assert.That(Query(null, "SELECT i FROM range(100000) AS t(i) ORDER BY hash(i)"), Has.Count.EqualTo(100_000));
        Assert.That(Directory.GetFileSystemEntries(Environment.CurrentDirectory), Is.EquivalentTo(before));
        Assert.That(Directory.GetFileSystemEntries(Path.GetTempPath(), "owt-sql-*"), Is.Empty);
    }

    [Test]
    public void A_file_that_is_no_Parquet_is_told()
    {
        using var folder = new TemporaryFolder();
        foreach (var content in new[] { "PAR1 this is no such file PAR1", "", "PAR1" })
        {
            var path = folder.Write("rows.parquet", content);
            var error = Assert.Throws<InvalidDataException>(() => DataFile.Read(path).Count());
            Assert.That(error!.Message, Does.StartWith(path + ": ").And.EndWith(".").And.Not.Contain("\n"));
        }
    }

    [Test]
    public void A_Parquet_file_that_is_damaged_or_cut_off_is_told_and_never_ends_early()
    {
        using var folder = new TemporaryFolder();
        var path = folder.At("rows.parquet");
        Copy("SELECT i, 'question ' || i AS prompt, repeat('x', 50) AS completion FROM range(300000) AS t(i)", path, "ROW_GROUP_SIZE 50000");
        var whole = File.ReadAllBytes(path);
        var damaged = whole.ToArray();
        for (var i = 0; i < 2000; i++)
        {
            damaged[(whole.Length * 3 / 4) + i] ^= 0x5a;
        }

        foreach (var bytes in new[] { damaged, whole[..^1], whole[..(whole.Length / 2)], whole[..20] })
        {
            File.WriteAllBytes(path, bytes);
            var error = Assert.Throws<InvalidDataException>(() => DataFile.Read(path).Count());
            Assert.That(error!.Message, Does.StartWith(path + ": ").And.EndWith(".").And.Not.Contain("\n").And.Not.Contain("pending query"));
        }
    }

    private static List<string> Query(string? path, string query) =>
        [.. DataFile.Read(new DataSource { Path = path ?? "", Query = query }).Select(static r => r.Json.ToJsonString())];

    private static void Copy(string select, string path, string options = "")
    {
        using var connection = new DuckDBConnection("DataSource=:memory:");
        connection.Open();
        using var command = connection.CreateCommand();
        command.CommandText = $"COPY ({select}) TO '{path.Replace("'", "''", StringComparison.Ordinal)}' (FORMAT parquet{(options.Length > 0 ? ", " : "")}{options})";
        _ = command.ExecuteNonQuery();
    }
}
