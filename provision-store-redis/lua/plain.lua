-- Appends that change nothing but their frame and what their row says of it: most of all.

-- What a plain append leaves alone of a row is kept in one piece: due time, number, lease, requests,
-- those that are consumed, deaths; from the last death to the business keys; letter; key and polls.
local PLAIN = '^[^\n]*\n(%d+)\n(%d+)\n(%d+\n[^\n]*\n%d+)\n(%d+)\n(%d+)\n[01]\n(%d+)\n'
  .. '(%d*\n[01]\n[012]\n' .. PLACED .. '\n[^\n]*\n[^\n]*)\n%d+\n([01])\n'
  .. '([^\n]*\n[^\n]*)\n[^\n]*\n$'
local PLAIN_ARGS = 10

-- Writes the frame and the row of a run whose lease and number are those of the append, where
-- nothing else changes; the number of its newest request, or nil where `append` has to look.
local function append_plain(
  run, before, seq, fence, frame, status, summary, open, settled, consumed, letter)
  local due, at, lease, asked, seen, deaths, middle, was_letter, texts =
    string.match(row_text(run) or '', PLAIN)
  if lease ~= fence or at ~= before or seen ~= consumed or was_letter ~= letter or frame == '' then
    return nil
  end
  put(hashes, FRAMES, run .. '.' .. seq, frame)
  put_text(run, status .. '\n' .. due .. '\n' .. seq .. '\n' .. lease .. '\n' .. asked .. '\n'
    .. seen .. '\n' .. open .. '\n' .. (settled == '1' and '0' or deaths) .. '\n' .. middle .. '\n'
    .. MOMENT .. '\n' .. letter .. '\n' .. texts .. '\n' .. summary .. '\n')
  return asked
end

