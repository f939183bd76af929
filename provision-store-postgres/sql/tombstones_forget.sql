SELECT provision.forget($1, $2, $3)
