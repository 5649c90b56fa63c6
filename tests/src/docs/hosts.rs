//! Several machines on this one: a network namespace each, with its own name, addresses, `/etc`, `/run`, `/var/lib` and
//! home, and a shell that commands are typed into one after the other.
//!
//! Nothing leaves this machine: the namespaces are joined by a bridge in a namespace of its own, and none of them has a
//! route to anywhere else. All of it goes when the value is dropped.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use xtask::root::Root;

use crate::process;

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// The part of every address that all hosts share.
const NETWORK: &str = "10.77.0";

/// How the names of all namespaces begin; the number of the process that made them follows.
const PREFIX: &str = "archyard-docs-";

/// Machines that reach each other by name.
#[derive(Debug)]
pub struct Hosts {
    root: Root,
    dir: tempfile::TempDir,
    prefix: String,
    hosts: BTreeMap<String, Host>,
}

#[derive(Debug)]
struct Host {
    namespace: String,
    folder: PathBuf,
    shell: Child,
    input: ChildStdin,
    fixtures: Vec<Child>,
    commands: u32,
}

/// A host to be made.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    pub name: &'static str,
    /// The Engine that is at `/var/run/docker.sock` there.
    pub engine: Option<PathBuf>,
}

/// What a command left.
#[derive(Debug, Clone)]
pub struct Typed {
    pub code: i32,
    /// Both streams, standard output first.
    pub printed: String,
}

impl Hosts {
    /// Machines of these names; `archyard` is on the `PATH` of each.
    pub fn start(archyard: &Path, specs: &[Spec]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let root = Root::obtain("making network namespaces").unwrap();
        sweep(&root);
        let prefix = format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::Builder::new().prefix("hosts").tempdir().unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(archyard, bin.join("archyard")).unwrap();
        copier(&bin.join("scp"), dir.path());
        let mut hosts = Self { root, dir, prefix, hosts: BTreeMap::new() };
        let switch = hosts.switch();
        hosts.ip(&["netns", "add", &switch]);
        hosts.ip(&["-n", &switch, "link", "add", "switch", "type", "bridge"]);
        hosts.ip(&["-n", &switch, "link", "set", "switch", "up"]);
        let names: String =
            (1..).zip(specs).map(|(number, spec)| format!("{NETWORK}.{number} {}\n", spec.name)).collect();
        for (number, spec) in (1..).zip(specs) {
            hosts.add(number, spec, &format!("127.0.0.1 localhost\n{names}"));
        }
        hosts
    }

    /// The home folder of a host's user, as it is named from everywhere.
    pub fn home(&self, host: &str) -> PathBuf {
        self.host(host).folder.join("home")
    }

    /// Writes a file into a host's home folder.
    pub fn write(&self, host: &str, path: &str, content: &[u8]) {
        let path = self.home(host).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Types a command into a host's shell, and waits for its end.
    pub fn type_in(&mut self, host: &str, command: &str) -> Typed {
        let host = self.host_mut(host);
        let (out, code) = host.next();
        let command = command.trim_end();
        // In braces and not in parentheses: what it exports and where it goes stays for the next one.
        let streams = format!("</dev/null >{0}.out 2>{0}.err", out.display());
        host.say(&format!(
            "{{ {command}\n}} {streams}; echo $? >{0}.new; mv {0}.new {0}.code",
            out.display()
        ));
        let ended = || fs::read_to_string(&code).ok();
        let text = process::wait_for(&format!("the end of {command}"), PATIENCE, ended);
        let read = |kind: &str| fs::read(out.with_extension(kind)).unwrap_or_default();
        let printed = [read("out"), read("err")].concat();
        Typed { code: text.trim().parse().unwrap(), printed: String::from_utf8_lossy(&printed).into_owned() }
    }

    /// Types a command that is left running, and waits until it has said this.
    pub fn leave_running(&mut self, host: &str, command: &str, until: &str) {
        let host = self.host_mut(host);
        let (out, _) = host.next();
        let command = command.trim_end();
        host.say(&format!("{{ {command}\n}} </dev/null >{0}.out 2>&1 & echo $! >{0}.pid", out.display()));
        let began = Instant::now();
        loop {
            let said = fs::read_to_string(out.with_extension("out")).unwrap_or_default();
            if said.contains(until) {
                return;
            }
            let pid = process::pid_file(&out.with_extension("pid"));
            let ended = pid.is_some_and(|pid| !process::is_alive(pid));
            assert!(!ended && began.elapsed() < PATIENCE, "{command} did not say {until:?}:\n{said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// All that was printed on all hosts, for a failed assertion.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for (name, host) in &self.hosts {
            let entries = fs::read_dir(host.folder.join("typed")).unwrap().flatten();
            let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
            files.sort();
            for file in files {
                let said = fs::read(&file).unwrap_or_default();
                let said = String::from_utf8_lossy(&said);
                text.push_str(&format!("--- {name} {}\n{said}", file.display()));
            }
        }
        text
    }

    /// A process of a test's own on a host, such as a registry. It ends with the host.
    pub fn spawn(&mut self, host: &str, command: &[&str]) {
        let root = self.root.clone();
        let host = self.host_mut(host);
        let child = root
            .command("ip")
            .args(["netns", "exec", &host.namespace])
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(host.folder.join("typed/fixture.err")).unwrap())
            .spawn()
            .unwrap();
        host.fixtures.push(child);
    }

    fn host(&self, name: &str) -> &Host {
        self.hosts.get(name).unwrap_or_else(|| panic!("there is no host {name:?}"))
    }

    fn host_mut(&mut self, name: &str) -> &mut Host {
        self.hosts.get_mut(name).unwrap_or_else(|| panic!("there is no host {name:?}"))
    }

    fn ip(&self, arguments: &[&str]) {
        let output = self.root.command("ip").args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {}: {said}", arguments.join(" "));
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.prefix)
    }

    fn add(&mut self, number: u32, spec: &Spec, names: &str) {
        let namespace = format!("{}-{number}", self.prefix);
        let folder = self.dir.path().join(spec.name);
        for name in ["home", "run", "typed", "layers"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        fs::write(folder.join("hosts"), names).unwrap();
        self.ip(&["netns", "add", &namespace]);
        self.ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        let (switch, port) = (self.switch(), format!("port{number}"));
        self.ip(&[
            "-n", &namespace, "link", "add", "eth0", "type", "veth", "peer", "name", &port, "netns", &switch,
        ]);
        self.ip(&["-n", &switch, "link", "set", &port, "master", "switch", "up"]);
        self.ip(&["-n", &namespace, "address", "add", &format!("{NETWORK}.{number}/24"), "dev", "eth0"]);
        self.ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
        let log = File::create(folder.join("typed/shell.err")).unwrap();
        let mut shell = self
            .root
            .command("ip")
            .args(["netns", "exec", &namespace, "unshare", "--uts", "bash", "--noprofile", "--norc"])
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let input = shell.stdin.take().unwrap();
        let mut host = Host { namespace, folder, shell, input, fixtures: Vec::new(), commands: 0 };
        let setup = setup(&host.folder, &self.dir.path().join("bin"), spec);
        host.say(&setup);
        self.hosts.insert(spec.name.to_owned(), host);
        let ready = self.type_in(spec.name, "hostname");
        assert_eq!(ready.printed.trim(), spec.name, "{}", self.logs());
    }
}

/// What makes a namespace a machine: its own folders, its name, and an environment without the tests' own.
fn setup(folder: &Path, bin: &Path, spec: &Spec) -> String {
    let folder = folder.display();
    let mut lines = vec!["set -e".to_owned(), format!("mount -t tmpfs tmpfs {folder}/layers")];
    for (name, lower) in [("etc", "/etc"), ("lib", "/var/lib")] {
        let layer = format!("{folder}/layers/{name}");
        lines.push(format!("mkdir -p {layer}/upper {layer}/work"));
        let options = format!("lowerdir={lower},upperdir={layer}/upper,workdir={layer}/work");
        lines.push(format!("mount -t overlay overlay -o {options} {lower}"));
    }
    // A page begins on a machine without a farm.
    lines.push("rm -rf /var/lib/archyard /etc/archyard".to_owned());
    lines.push(format!("cp {folder}/hosts /etc/hosts"));
    if let Some(engine) = &spec.engine {
        lines.push(format!("touch {folder}/run/docker.sock"));
        lines.push(format!("mount --bind {} {folder}/run/docker.sock", engine.display()));
    }
    lines.push(format!("mount --rbind {folder}/run /run"));
    lines.push(format!("hostname {}", spec.name));
    lines.push(
        "unset ARCHYARD_FARM ARCHYARD_TLS_DIR ARCHYARD_LOG DOCKER_HOST DOCKER_CONFIG SSL_CERT_FILE SSL_CERT_DIR \
         XDG_RUNTIME_DIR XDG_STATE_HOME XDG_CACHE_HOME XDG_CONFIG_HOME"
            .to_owned(),
    );
    lines.push(format!("export HOME={folder}/home PATH={}:$PATH", bin.display()));
    lines.push("cd\nset +e".to_owned());
    lines.join("\n")
}

/// `scp -r FROM HOST:TO` between hosts that run no ssh daemon: it copies the files and nothing else.
fn copier(path: &Path, hosts: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let script = format!(
        "#!/bin/sh\nset -e\n[ \"$1\" = -r ] && shift\nexec cp -r \"$1\" \"{}/${{2%%:*}}/home/${{2#*:}}\"\n",
        hosts.display()
    );
    fs::write(path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

impl Host {
    fn say(&mut self, text: &str) {
        writeln!(self.input, "{text}").unwrap();
        self.input.flush().unwrap();
    }

    /// Where the next command's streams go, and where its exit code will stand.
    fn next(&mut self) -> (PathBuf, PathBuf) {
        self.commands += 1;
        let out = self.folder.join("typed").join(format!("{:03}", self.commands));
        (out.clone(), out.with_extension("code"))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        for host in self.hosts.values_mut() {
            end(&self.root, &host.namespace);
            for child in host.fixtures.iter_mut().chain([&mut host.shell]) {
                drop(child.wait());
            }
        }
        end(&self.root, &self.switch());
        // What root's programs wrote is root's.
        drop(self.root.command("rm").arg("-rf").arg(self.dir.path()).output());
    }
}

/// Ends everything that runs in a namespace, and removes it.
fn end(root: &Root, namespace: &str) {
    let pids = root.command("ip").args(["netns", "pids", namespace]).output();
    let pids = pids.map(|pids| String::from_utf8_lossy(&pids.stdout).into_owned()).unwrap_or_default();
    for pid in pids.lines() {
        drop(root.command("kill").args(["-KILL", pid.trim()]).output());
    }
    drop(root.command("ip").args(["netns", "del", namespace]).output());
}

/// What a run left behind that was killed.
fn sweep(root: &Root) {
    let names = root.command("ip").args(["netns", "list"]).output().unwrap();
    for name in String::from_utf8_lossy(&names.stdout).lines().filter_map(|line| line.split(' ').next()) {
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse().ok());
        if maker.is_some_and(|maker| !process::is_alive(maker)) {
            end(root, name);
        }
    }
}
