//! Programs that act a part: scripts of the shell in a folder of their own, which write down what
//! they were called with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// A folder with a program in it. The program finds its folder by its own path.
#[derive(Debug)]
pub(crate) struct Stub {
    folder: tempfile::TempDir,
}

impl Stub {
    /// Writes the program `name`.
    pub(crate) fn new(name: &str, script: &str) -> Self {
        let stub = Self { folder: tempfile::tempdir().unwrap() };
        stub.program(name, script);
        stub
    }

    /// Writes one more program.
    pub(crate) fn program(&self, name: &str, script: &str) {
        // Written by a child: a file that this process holds open for writing, and with it every
        // child it starts meanwhile, cannot be run.
        let to = self.path(name);
        let mut child = Command::new("/bin/sh")
            .args(["-c", "cat > \"$0\" && chmod 700 \"$0\""])
            .arg(&to)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Sets what a file says that the program reads.
    pub(crate) fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).unwrap();
    }

    /// What a file says; nothing if it is not there.
    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_default()
    }

    /// Waits until the process is gone whose id this file has, or nothing is left of it but an entry
    /// that nobody has asked for yet.
    pub(crate) async fn is_gone(&self, file: &str) {
        let began = Instant::now();
        let stat = format!("/proc/{}/stat", self.read(file).trim().parse::<u32>().unwrap());
        while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(began.elapsed() < Duration::from_secs(60), "the process of `{file}` lives");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Arguments of every call so far, one call a line.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.read("calls").lines().map(str::to_owned).collect()
    }

    /// Names of the variables that a call has seen, without those that a shell sets by itself.
    pub(crate) fn variables(&self) -> std::collections::BTreeSet<String> {
        let shell = ["PWD", "OLDPWD", "SHLVL", "_"];
        let seen = self.read("environment");
        let names = seen.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name);
        names.filter(|name| !shell.contains(name)).map(str::to_owned).collect()
    }
}
