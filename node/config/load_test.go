package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// TestBadFiles holds the whole text of every error against golden files, named
// after what they cover: row 36 (nan and inf), row 56 (open to other hosts),
// row 59 (typos, unknown keys, wrong types, duplicates, overflow, bad syntax),
// row 60 (valid but dangerous).
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.toml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".toml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = decode(filepath.Base(file), data, envOf(data))
			if err == nil {
				t.Fatal("no error")
			}
			golden(t, strings.TrimSuffix(file, ".toml")+".txt", err.Error()+"\n")
		})
	}
}

// envOf reads the "# env NAME=value" lines of a test file.
func envOf(data []byte) []string {
	var env []string
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, "# env "); ok {
			env = append(env, strings.TrimSpace(v))
		}
	}
	return env
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs:\n--- got\n%s--- want\n%s", file, got, want)
	}
}

// TestTypos seeds typing errors in keys, words and sections (row 59): each is
// answered with what was meant.
func TestTypos(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"[nod]\n", "node"},
		{"[plicy]\n", "policy"},
		{"[limtis]\n", "limits"},
		{"[strore]\n", "store"},
		{"[sevice.x]\n", "service"},
		{"[clas.jvm]\n", "class"},
		{"[node]\nnmae = 'x'\n", "name"},
		{"[node]\ndatadir = '/x'\n", "data_dir"},
		{"[node]\nmod = 'auto'\n", "mode"},
		{"[node]\nmode = 'atuo'\n", "auto"},
		{"[node]\nmode = 'recomend'\n", "recommend"},
		{"[docker]\nhosts = 'x'\n", "host"},
		{"[docker]\nactuater = 'x'\n", "actuator"},
		{"[docker]\nactuator = 'kernal'\n", "kernel"},
		{"[api]\nmoniter = 'x'\n", "monitor"},
		{"[api]\ntls-cert = 'x'\n", "tls_cert"},
		{"[api]\nsokcet = 'x'\n", "socket"},
		{"[monitor]\nidle_evry = 'x'\n", "idle_every"},
		{"[policy]\ncpu_mni = 1\n", "cpu_min"},
		{"[policy]\ncpu.target = 1\n", "cpu_target"},
		{"[policy]\nthrotle_target = 1\n", "throttle_target"},
		{"[policy]\noom_protct = 1\n", "oom_protect"},
		{"[limits]\ncpu_overcomit = 1\n", "cpu_overcommit"},
		{"[log]\nlevel = 'wran'\n", "warn"},
		{"[log]\nformat = 'jsno'\n", "json"},
		{"[class.databse]\n", "database"},
		{"[class.jvm]\nstart_bost = 2\n", "start_boost"},
		{"[clutser]\n", "cluster"},
		{"[cluster]\nadvertize = 'x'\n", "advertise"},
		{"[cluster]\ntiming = 'lna'\n", "lan"},
		{"[service.web]\nmemory_mx = 2\n", "memory_max"},
		{"[service.web]\nclass = 'servng'\n", "serving"},
	} {
		_, err := decode("f", []byte(c.file), nil)
		if want := `did you mean "` + c.want + `"?`; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: no %q in: %v", c.file, want, err)
		}
	}
	if got := Suggest("prot", []string{"host", "port", "path"}); got != "port" {
		t.Errorf("prot: %q", got)
	}
	for _, far := range []string{"", "x", "zebra", strings.Repeat("port", 1000)} {
		if got := Suggest(far, []string{"host", "port", "path"}); got != "" {
			t.Errorf("%.20q: suggested %q", far, got)
		}
	}
}

func TestEveryKeyFromFileAndEnvironment(t *testing.T) {
	sample := map[string]string{ // another value than the default for each key
		"node.name": "alpha", "node.data_dir": "/data", "node.mode": "observe", "node.zone": "eu-1",
		"docker.host": "tcp://127.0.0.1:2375", "docker.actuator": "engine", "docker.timeout": "20s",
		"docker.only_label": "team=blue",
		"api.monitor":       "127.0.0.1:0", "api.controller": "[::1]:1", "api.execution": "localhost:2", "api.socket": "/s",
		"api.socket_group": "wheel",
		"api.tokens_file":  "/t", "api.tls_cert": "/c", "api.tls_key": "/k", "api.hosts": "a.example,b.example",
		"cluster.name": "shop", "cluster.bind": "0.0.0.0:7000", "cluster.advertise": "10.0.0.1", "cluster.relay": "[::]:0",
		"cluster.join":     "10.0.0.2,beta.example:7001,fe80::1",
		"cluster.key_file": "/etc/key", "cluster.timing": "wan", "cluster.attestation": "quorum",
		"cluster.allow": "10.0.0.0/8,fd00::/8", "cluster.packet_size": "1280",
		"monitor.hot_every": "200ms", "monitor.every": "2s", "monitor.idle_every": "10s", "monitor.slow_every": "20s",
		"monitor.list_every":       "1m",
		"monitor.deliberate_every": "20s", "monitor.stale_after": "4", "monitor.budget": "2%",
		"policy.cpu": "weight", "policy.cpu_min": "0.1", "policy.cpu_max": "2", "policy.memory_min": "64MiB",
		"policy.memory_max": "1GiB",
		"policy.cpu_target": "70%", "policy.memory_target": "80%", "policy.weight": "60", "policy.throttle_target": "5%",
		"policy.cpu_percentile":    "90%",
		"policy.memory_percentile": "99%", "policy.memory_shrink": "false", "policy.start_boost": "3",
		"policy.start_boost_for": "2m",
		"policy.shrinks_per_day": "10", "policy.observe_first": "2m", "policy.shrink_after": "20m",
		"policy.oom_protect": "2h", "policy.yield_for": "0s",
		"limits.host_cpu_reserve": "6%", "limits.host_memory_reserve": "11%", "limits.host_memory_least": "1GiB",
		"limits.cpu_overcommit":    "1.5",
		"limits.container_cpu_max": "8", "limits.container_memory_max": "8GiB", "limits.actions_per_minute": "30",
		"limits.step_up": "2", "limits.step_down": "0.5",
		"store.max_size": "128MiB", "store.flush_every": "30s", "log.level": "debug", "log.format": "json",
	}
	var env []string
	for _, k := range Keys() {
		path := k.Section + "." + k.Name
		if k.Env == "" {
			continue
		}
		value, ok := sample[path]
		if !ok {
			t.Errorf("no sample of %s", path)
		}
		env = append(env, k.Env+"="+value)
	}
	fromEnv, err := decode("", nil, env)
	if err != nil {
		t.Fatal(err)
	}
	text := fromEnv.Effective()
	fromFile, err := decode("effective.toml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := withoutOrigins(fromEnv), withoutOrigins(fromFile); !reflect.DeepEqual(a, b) {
		t.Errorf("environment and file differ:\n%+v\n%+v", a, b)
	}
	for _, k := range fromEnv.bindings() {
		if got := k.text(); got != sample[k.path()] && !unused(k.name) {
			t.Errorf("%s is %s, want %s", k.path(), got, sample[k.path()])
		}
		if o := fromEnv.OriginOf(k.path()); o.String() != k.env() {
			t.Errorf("%s comes from %s", k.path(), o)
		}
		if o := fromFile.OriginOf(k.path()); o.Source != FromFile || !strings.HasPrefix(strings.Split(text, "\n")[o.Line-1],
			k.name+" = ") {
			t.Errorf("%s comes from %s", k.path(), o)
		}
	}
	want := len(fromEnv.NeedsRestart(&fromEnv))
	defaults := Defaults()
	if keys := fromEnv.NeedsRestart(&defaults); want != 0 || len(keys) < 10 || keys[0] != "node.name" {
		t.Errorf("%d, then %v", want, keys)
	}
}

func TestOrderOfLayers(t *testing.T) {
	file := "[node]\nmode = 'observe'\nzone = 'a'\n[class.jvm]\nshrinks_per_day = 3\n"
	c, err := decode("x.toml", []byte(file), []string{"EFFISCALE_NODE_MODE=recommend", "EFFISCALE_CLASS_JVM_SHRINKS_PER_DAY=5",
		"EFFISCALE_SOCKET=/other", "EFFISCALE_REQUIRE_ENGINE=1", "PATH=/bin"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Node.Mode != knowledge.ModeRecommend || c.OriginOf("node.mode").String() != "EFFISCALE_NODE_MODE" {
		t.Errorf("mode %v from %v", c.Node.Mode, c.OriginOf("node.mode"))
	}
	if got := c.OriginOf("node.zone").String(); got != "x.toml:3" {
		t.Errorf("zone from %s", got)
	}
	if got := c.OriginOf("node.name").String(); got != "default" {
		t.Errorf("name from %s", got)
	}
	p := c.PolicyFor(knowledge.Container{Labels: map[string]string{"effiscale.class": "jvm"}})
	if p.ShrinksPerDay != 5 || p.ShrinkAfter != 6*time.Hour {
		t.Errorf("%d shrinks a day, after %s", p.ShrinksPerDay, p.ShrinkAfter)
	}
}

func TestUnreadableFiles(t *testing.T) {
	dir := t.TempDir()
	big, pipe := filepath.Join(dir, "big"), filepath.Join(dir, "pipe")
	if err := os.WriteFile(big, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "no such file or directory",
		dir:                        "not a regular file",
		pipe:                       "not a regular file",
		big:                        "larger than 1 MiB",
	} {
		_, err := Load(path, nil)
		if err == nil || !strings.HasPrefix(err.Error(), "cannot read configuration "+path) ||
			!strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := Load(filepath.Join(dir, "none"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("not fs.ErrNotExist: %v", err)
	}
}

func TestEffective(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(path, []byte("[service.web]\ncpu_min = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path, []string{"EFFISCALE_LOG_LEVEL=warn"})
	if err != nil {
		t.Fatal(err)
	}
	text := c.Effective()
	for _, want := range []string{"[service.\"web\"]\ncpu_min = 1 ", path + ":2\n", "# EFFISCALE_LOG_LEVEL\n",
		"# default\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if _, err := Load(path, []string{"EFFISCALE_LOG_LEVEL=loud"}); err == nil ||
		!strings.Contains(err.Error(), "EFFISCALE_LOG_LEVEL") {
		t.Errorf("error does not name the variable: %v", err)
	}
}

// TestBeyondLoopback: row 56, who can reach the services must prove who he is.
func TestBeyondLoopback(t *testing.T) {
	full := "\ntokens_file = '/t'\ntls_cert = '/c'\ntls_key = '/k'\n"
	for file, ok := range map[string]bool{
		"monitor = '127.0.0.1:1'":                              true,
		"monitor = '127.9.9.9:1'":                              true,
		"monitor = '[::1]:1'":                                  true,
		"monitor = '[::ffff:127.0.0.1]:1'":                     true,
		"monitor = 'localhost:1'":                              true,
		"monitor = ''":                                         true,
		"monitor = ':1'":                                       false,
		"monitor = '0.0.0.0:1'":                                false,
		"monitor = '[::]:1'":                                   false,
		"monitor = '10.0.0.1:1'":                               false,
		"monitor = 'localhost.evil.com:1'":                     false,
		"monitor = '127.0.0.1.evil.com:1'":                     false,
		"execution = ':1'\ntokens_file = '/t'":                 false,
		"execution = ':1'\ntls_cert = '/c'\ntls_key = '/k'":    false,
		"execution = ':1'" + full:                              true,
		"tls_cert = '/c'":                                      false,
		"tls_key = '/k'":                                       false,
		"monitor = '127.0.0.1:9'\nexecution = '127.0.0.1:9'":   false,
		"monitor = '127.0.0.1:0'\nexecution = '127.0.0.1:0'":   true,
		"monitor = '127.0.0.1:65536'":                          false,
		"monitor = '127.0.0.1:-1'":                             false,
		"monitor = '127.0.0.1'":                                false,
		"monitor = 'http://127.0.0.1:8001'":                    false,
		"hosts = ['a b']":                                      false,
		"hosts = ['effiscale.example', '10.0.0.1', 'fe80::1']": true,
	} {
		if _, err := decode("f", []byte("[api]\n"+file), nil); (err == nil) != ok {
			t.Errorf("%q: %v", file, err)
		}
	}
}

func TestKeysAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Keys() {
		if k.Help == "" || k.Allowed == "" || k.Type == "" || strings.ContainsAny(k.Help, "\n|") {
			t.Errorf("%+v", k)
		}
		if k.Env != "" && seen[k.Env] {
			t.Errorf("%s twice", k.Env)
		}
		seen[k.Env] = true
		if !strings.Contains(Table()+LabelTable(), k.Help) {
			t.Errorf("the table lacks %s.%s%s", k.Section, k.Name, k.Label)
		}
	}
}

func TestManyProblemsAreBounded(t *testing.T) {
	file := "[node]\n" + strings.Repeat("name = 1\n", 5000)
	_, err := decode("f", []byte(file), nil)
	problems, ok := errors.AsType[Errors](err)
	if !ok || len(problems) != maxReported+1 || !strings.Contains(err.Error(), "4900 more problems are not shown") {
		t.Errorf("%d problems", len(problems))
	}
}

// Keys and labels that lost their purpose are accepted, and named.
func TestUnusedKeys(t *testing.T) {
	file := "[policy]\nstart_boost = 3\n[class.jvm]\nstart_boost_for = '2m'\n[service.\"web\"]\nstart_boost = 2\n"
	c, err := decode("x.toml", []byte(file), []string{"EFFISCALE_POLICY_START_BOOST_FOR=5s"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"class.jvm.start_boost_for", "policy.start_boost", "policy.start_boost_for", "service.web.start_boost"}
	if got := c.Unused(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	p := c.PolicyFor(labelled("enable=true", "start-boost=4", "start-boost-for=10s"))
	if !p.Acts() {
		t.Errorf("refused: %q", p.Problems)
	}
	if got := UnusedLabel(map[string]string{"effiscale.cpu": "1..2", "effiscale.start-boost-for": "9s"}); got !=
		"effiscale.start-boost-for" {
		t.Errorf("%q", got)
	}
	fresh := Defaults()
	if got := fresh.Unused(); len(got) != 0 {
		t.Errorf("by default: %q", got)
	}
}
