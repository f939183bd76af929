-- A bucket as it is. Nothing is written.

return found(call('HGET', KEYS[1], ARGV[1]) or '')
