using System.Runtime.InteropServices;
using System.Text;
using LLama.Native;

namespace OpenWeights.LlamaCpp;

/// <summary>
/// llama.cpp's built-in chat templates, implemented in code and selected by characteristic strings in a file's template. Programs without
/// a template engine (LLamaSharp, llama-cli with --no-jinja) render chats with them.
/// </summary>
public static class BuiltInTemplates
{
    /// <summary>Renders a chat with a built-in template, including the start of the assistant's next turn.</summary>
    /// <param name="template">The file's template.</param>
    /// <param name="messages">The messages.</param>
    /// <returns>The text; null if no built-in template matches.</returns>
    public static unsafe string? Render(string template, IReadOnlyList<(string Role, string Content)> messages)
    {
        ArgumentNullException.ThrowIfNull(messages);
        var texts = new List<nint>();
        nint Native(string text)
        {
            texts.Add(Marshal.StringToCoTaskMemUTF8(text));
            return texts[^1];
        }

        try
        {
            var chat = new LLamaChatMessage[messages.Count];
            for (var i = 0; i < chat.Length; i++)
            {
                chat[i] = new LLamaChatMessage { role = (byte*)Native(messages[i].Role), content = (byte*)Native(messages[i].Content) };
            }

            var (name, buffer) = (Native(template), new byte[1024]);
            fixed (LLamaChatMessage* first = chat)
            {
                while (true)
                {
                    int length;
                    fixed (byte* start = buffer)
                    {
                        length = NativeApi.llama_chat_apply_template((byte*)name, first, (nuint)chat.Length, true, start, buffer.Length);
                    }

                    if (length <= buffer.Length)
                    {
                        return length < 0 ? null : Encoding.UTF8.GetString(buffer, 0, length);
                    }

                    buffer = new byte[length];
                }
            }
        }
        finally
        {
            texts.ForEach(Marshal.FreeCoTaskMem);
        }
    }
}
