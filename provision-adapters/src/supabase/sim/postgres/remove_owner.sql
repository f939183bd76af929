drop role if exists {owner}
