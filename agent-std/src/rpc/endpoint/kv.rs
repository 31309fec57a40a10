//! `KVS`

use super::*;

/// What `KVS.Apply` can do.
const OPS: [&str; 7] = ["set", "delete", "delete-cas", "delete-tree", "cas", "lock", "unlock"];

pub(super) async fn apply(call: Call<'_>) -> Answer {
    let prepare = |args: &KvsRequest| {
        let KvsRequest { op, dir_ent: DirEntry { key, .. }, token, .. } = args;
        if key.is_empty() && op != "delete-tree" {
            return Err(CallError::refused("Must provide key"));
        }
        if !OPS.contains(&op.as_str()) {
            return Err(CallError::refused(format!("Invalid KVS operation '{op}'")));
        }
        let resource = if op == "delete-tree" { Resource::KeyPrefix(key) } else { Resource::Key(key) };
        call.require(token, Access::Write, resource)?;
        Ok(Command::Kvs(args.clone()))
    };
    call.write(prepare, |outcome| outcome.done).await
}

pub(super) async fn get(call: Call<'_>) -> Answer {
    let interests = |args: &KeyRequest| vec![topic(Topic::Key(args.key.as_str().into()))];
    call.read(interests, |look, args| {
        call.require(&args.options.token, Access::Read, Resource::Key(&args.key))?;
        let (index, entry) = look.state.kv(&args.key);
        Ok((index, DirEntriesReply { entries: entry.map(|entry| vec![entry.clone()]), ..<_>::default() }))
    })
    .await
}

pub(super) async fn list(call: Call<'_>) -> Answer {
    let interests = |args: &KeyRequest| vec![Interest::Prefix(args.key.as_str().into())];
    call.read(interests, |look, args| {
        let (index, entries) = look.state.kv_tree(&args.key);
        let readable = entries.into_iter().filter(|entry| look.may_read(Resource::Key(&entry.key)));
        let entries: Vec<DirEntry> = readable.cloned().collect();
        let entries = Some(entries).filter(|entries| !entries.is_empty());
        Ok((index, DirEntriesReply { entries, ..<_>::default() }))
    })
    .await
}

pub(super) async fn list_keys(call: Call<'_>) -> Answer {
    let interests = |args: &KeyListRequest| vec![Interest::Prefix(args.prefix.as_str().into())];
    call.read(interests, |look, args| {
        let (index, entries) = look.state.kv_tree(&args.prefix);
        let readable = entries.into_iter().filter(|entry| look.may_read(Resource::Key(&entry.key)));
        let mut keys: Vec<&str> = readable.map(|entry| cut(&entry.key, &args.prefix, &args.separator)).collect();
        keys.dedup();
        let keys = keys.into_iter().map(Into::into).collect();
        Ok((index, KeysReply { keys: Some(keys), ..<_>::default() }))
    })
    .await
}

/// `key` up to the first separator beyond the prefix, and with it.
fn cut<'a>(key: &'a str, prefix: &str, separator: &str) -> &'a str {
    if separator.is_empty() {
        return key;
    }
    match key[prefix.len()..].find(separator) {
        Some(at) => &key[..prefix.len() + at + separator.len()],
        None => key,
    }
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn keys_are_cut_after_the_separator() {
        assert_eq!(cut("a/b/c", "a/", "/"), "a/b/");
        assert_eq!(cut("a/b", "a/", "/"), "a/b");
        assert_eq!(cut("a/b/c", "", "/"), "a/");
        assert_eq!(cut("a--b", "a", "--"), "a--");
        assert_eq!(cut("a/b", "", ""), "a/b");
    }
}
