-- Nobody's: incarnations are not touched, so who starts runs need not be let near them.
alive AS (SELECT NULL::integer AS ns, NULL::uuid AS id WHERE false),
