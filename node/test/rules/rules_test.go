package rules

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

const (
	module = "github.com/effiscale/effiscale"
	root   = "../../.." // of the module
)

// layer bounds what a package may import.
type layer uint8

const (
	types   layer = iota // plain data: the standard library only
	pure                 // types and pure packages: no clock, no I/O
	effects              // files, sockets, goroutines, the libraries of adapters()
	wiring               // constructs packages and connects them
	tests                // tests and their helpers
)

// packageRule is what one package may import.
type packageRule struct {
	path  string // below the module
	layer layer
	// knows lists the packages of the layers above pure that it may import; "*" is
	// all of them. Types may be imported everywhere, pure packages from pure on.
	knows []string
	// logs: zerolog may be used, by value.
	logs bool
}

// layout lists every package. The test fails on a package that is not listed.
func layout() []packageRule {
	return []packageRule{
		{path: ".", layer: wiring, knows: []string{"*"}, logs: true},

		{path: "knowledge", layer: types},

		{path: "knowledge/history", layer: pure},
		{path: "knowledge/profile", layer: pure},
		{path: "mape/analyse", layer: pure},
		{path: "mape/forecast", layer: pure},
		{path: "mape/image", layer: pure},
		{path: "mape/plan", layer: pure},
		{path: "mape/service", layer: pure},
		{path: "mape/simulate", layer: pure},

		{path: "knowledge/store", layer: effects, logs: true},
		{path: "docker", layer: effects, knows: []string{"docker/cgroup"}, logs: true},
		{path: "docker/cgroup", layer: effects},
		{path: "docker/dockertest", layer: effects, knows: []string{"docker", "docker/cgroup"}},
		{path: "docker/observer", layer: effects},
		{path: "mape", layer: effects, knows: []string{"mape/actor", "mape/monitor", "mape/execute"}, logs: true},
		{path: "mape/actor", layer: effects},
		{path: "mape/monitor", layer: effects, logs: true},
		{path: "mape/execute", layer: effects, logs: true},

		{path: "node/cluster/ring", layer: pure},
		{path: "node/cluster/claim", layer: effects},
		{path: "node/cluster/quorum", layer: effects},
		{path: "node/cluster/trust", layer: effects},
		{path: "node/cluster/relay", layer: effects, knows: []string{"node/cluster/trust"}, logs: true},
		{path: "node/cluster/member", layer: effects, knows: []string{"node/cluster/trust"}, logs: true},
		{
			path:  "node/cluster",
			layer: wiring,
			knows: []string{
				"mape",
				"mape/actor",
				"node/cluster/claim",
				"node/cluster/member",
				"node/cluster/quorum",
				"node/cluster/relay",
				"node/cluster/trust",
			},
			logs: true,
		},
		{path: "node/test/sim", layer: tests, knows: []string{"*"}, logs: true},
		{path: "node/test/sim/simnet", layer: effects},
		{path: "node/test/hosts", layer: tests, knows: []string{"*"}},

		{path: "node", layer: wiring, knows: []string{"*"}, logs: true},
		{
			path:  "node/ops",
			layer: wiring,
			knows: []string{
				"mape",
				"knowledge/store",
				"node/api",
				"node/cluster",
				"node/cluster/member",
				"node/cluster/relay",
				"node/config",
				"node/view",
			},
			logs: true,
		},
		{path: "node/view", layer: pure, knows: []string{"mape", "mape/execute", "node/api"}}, // their types
		{
			path:  "node/doctor",
			layer: wiring,
			knows: []string{"docker", "docker/cgroup", "node/api", "node/config", "node/files"},
			logs:  true,
		},
		{path: "node/config", layer: effects},
		{path: "node/files", layer: wiring, knows: []string{"knowledge/store", "node/api", "node/cluster/member",
			"node/cluster/trust", "node/config"}},
		{path: "node/api", layer: effects, logs: true},
		{path: "node/ctl", layer: effects, knows: []string{"node/api"}},
		{
			path:  "node/demo",
			layer: wiring,
			knows: []string{"docker", "docker/cgroup", "mape/monitor", "node/api", "node/demo/process"},
			logs:  true,
		},
		{path: "node/demo/process", layer: effects, knows: []string{"docker/cgroup"}},

		{path: "node/test/rules", layer: tests, knows: []string{"node/config"}},
		{path: "node/test/e2e", layer: tests, knows: []string{"*"}, logs: true},
		{path: "node/test/cost", layer: tests, knows: []string{"*"}, logs: true},
		{path: "node/test/stack", layer: tests, knows: []string{"*"}},
		{path: "node/test/vm", layer: tests, knows: []string{"*"}},
		{path: "node/test/vm/load", layer: tests},
	}
}

// adapter is an outside library and the packages that may import it. None:
// tests only. A library that is not listed may not be imported.
type adapter struct {
	lib      string // prefix of the import path
	packages string // separated by blanks
}

func adapters() []adapter {
	return []adapter{
		{"github.com/docker/", "docker"},
		{"github.com/cenkalti/backoff/", "docker"},
		{"github.com/sony/gobreaker/", "docker"},
		{"go.etcd.io/bbolt", "knowledge/store"},
		{"github.com/pelletier/go-toml/", "node/config"},
		{"github.com/danielgtaylor/huma/", "node/api"},
		{"github.com/fxamacker/cbor/", "node/cluster/trust"},
		{"github.com/hashicorp/memberlist", "node/cluster/member node/test/sim/simnet node/test/hosts"},
		{"github.com/prometheus/", "node/api"},
		{"github.com/spf13/", "node/ctl"},
		{"charm.land/", "node/demo"},
		{"github.com/charmbracelet/x/", "node/ctl node/demo"},
		{"github.com/guptarohit/asciigraph", "node/demo"},
		{"github.com/HdrHistogram/hdrhistogram-go", "node/demo"},
		{"github.com/coreos/go-systemd/", "node"},
		{"gonum.org/v1/gonum", "mape/forecast"},
		{"golang.org/x/time", "node/api"},
		{"golang.org/x/sys", "docker/cgroup node node/api node/doctor node/demo node/demo/process node/test/vm/load"},
		{"github.com/rs/zerolog", ""}, // packageRule.logs says where
		{"pgregory.net/rapid", ""},
		{"go.uber.org/goleak", ""},
		{"github.com/google/go-cmp", ""},
		{"github.com/rogpeppe/go-internal", ""},
	}
}

// skips are the tests that may leave themselves out without a variable that
// requires them, and why. All others are required in the CI.
func skips() map[string]string {
	return map[string]string{
		"node/test/stack.TestStack":                  "an hour of real software",
		"docker.TestRealMemoryBelowUseIsRefusedOnV1": "cgroup v2 kills instead",
		"docker.TestRow31ReceiverTooSlow":            "a machine may be too fast for it",
		"node.TestNeighborsOfIPv6":                   "a machine may have no IPv6",
		"node/cluster/claim.deliver":                 "a step of a random script that does not apply",
		"docker/cgroup.TestEngineSetQuota":           "needs root",
		"docker/cgroup.TestEngineParent":             "needs root",
		"docker/cgroup.forest":                       "needs root",
		"docker/cgroup.readCalls":                    "the kernel may not count",
		"knowledge/store.tmpfs":                      "needs root",
		"knowledge/store.TestRow51SizeAfterAYear":    "takes seconds: not with -short",
	}
}

// TestRules holds the tree against the rules.
func TestRules(t *testing.T) {
	faults, err := inspect(os.DirFS(root), layout(), adapters(), skips())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		t.Error(f)
	}
}

// TestRulesCanFail shows that each rule refuses what it should, and nothing else.
func TestRulesCanFail(t *testing.T) {
	for _, c := range []struct {
		name, file, source string
		want               string // part of the only fault; "": none
	}{
		{"new package", "node/new/new.go", "package new", "is not listed"},
		{"listed package", "mape/plan/a.go", "package plan", ""},
		{"the top", "other.go", "package main", "but main.go"},
		{"testdata", "mape/plan/testdata/a.go", "package nowhere", ""},
		{"nested module", "nested/sub/a.go", "package nowhere", ""},
		{"types import ours", "knowledge/a.go", `package knowledge; import _ "` + module + `/mape/plan"`, "may not import mape/plan"},
		{"types import a library", "knowledge/a.go", `package knowledge; import _ "gonum.org/v1/gonum/stat"`, "may not import gonum"},
		{"pure imports pure", "mape/plan/a.go", `package plan; import _ "` + module + `/knowledge/history"`, ""},
		{"pure imports os", "mape/plan/a.go", `package plan; import _ "os"`, "may not import os"},
		{"pure imports net/http", "mape/plan/a.go", `package plan; import _ "net/http"`, "may not import net/http"},
		{"pure imports sync/atomic", "mape/plan/a.go", `package plan; import _ "sync/atomic"`, "may not import sync/atomic"},
		{"pure imports log", "mape/plan/a.go", `package plan; import _ "github.com/rs/zerolog"`, "may not import github.com/rs/zerolog"},
		{"pure imports rand", "mape/plan/a.go", `package plan; import _ "math/rand/v2"`, "may not import math/rand"},
		{"pure asks the clock", "mape/plan/a.go", `package plan; import "time"; func f() time.Time { return time.Now() }`, "time.Now"},
		{"pure asks by another name", "mape/plan/a.go", `package plan; import c "time"; var f = c.Since`, "time.Since"},
		{"types ask the clock", "knowledge/a.go", `package knowledge; import "time"; func f() { time.Sleep(1) }`, "time.Sleep"},
		{"a pure test may", "mape/plan/a_test.go", `package plan; import ("os"; "time"; "pgregory.net/rapid"); var _, _, _ = os.Args, time.Now, rapid.Check`, ""},
		{"effects ask the clock", "mape/a.go", `package mape; import "time"; var f = time.Now`, ""},
		{"mape imports docker", "mape/a.go", `package mape; import _ "` + module + `/docker"`, "may not import docker"},
		{"mape imports the store", "mape/execute/a.go", `package execute; import _ "` + module + `/knowledge/store"`, "may not import knowledge/store"},
		{"docker imports node", "docker/a.go", `package docker; import _ "` + module + `/node/api"`, "may not import node/api"},
		{"ctl imports docker", "node/ctl/a.go", `package ctl; import _ "` + module + `/docker"`, "may not import docker"},
		{"ctl imports api", "node/ctl/a.go", `package ctl; import _ "` + module + `/node/api"`, ""},
		{"another adapter", "node/a.go", `package node; import _ "github.com/docker/docker/client"`, "may not import github.com/docker/docker/client"},
		{"another adapter in a test", "node/a_test.go", `package node; import _ "go.etcd.io/bbolt"`, "may not import go.etcd.io/bbolt"},
		{"unknown library", "node/a.go", `package node; import _ "example.com/x"`, "may not import example.com/x"},
		{"test library at work", "node/a.go", `package node; import _ "pgregory.net/rapid"`, "may not import pgregory.net/rapid"},
		{"log by pointer", "mape/a.go", `package mape; import "github.com/rs/zerolog"; type t struct { log *zerolog.Logger }`, "zerolog.Logger by value"},
		{"log by value", "mape/a.go", `package mape; import "github.com/rs/zerolog"; type t struct { log zerolog.Logger }`, ""},
		{"init", "mape/a.go", `package mape; func init() {}`, "func init"},
		{"method init", "mape/a.go", `package mape; type t int; func (t) init() {}`, ""},
		{"mutable global", "mape/a.go", `package mape; var n int`, "global n"},
		{"assigned global", "mape/a.go", "package mape; var n = 1\nfunc f() { n = 2 }", "global n"},
		{"global in a map", "mape/a.go", "package mape; var n = map[int]int{}\nfunc f() { n[1]++ }", "global n"},
		{"embedded file", "mape/a.go", "package mape\n\n//go:embed a.md\nvar files embed.FS\n", ""},
		{"table", "mape/a.go", "package mape; var n = []int{1}\nfunc f() int { n := 1; n = 2; return n }", ""},
		{"code in tests only", "node/test/vm/a.go", "package vmtest", "tests only"},
		{"too many parameters", "mape/a.go", `package mape; func f(a, b, c, d, e, g int) {}`, "6 parameters"},
		{"long function", "mape/a.go", "package mape; func f() {" + strings.Repeat("\n", maxFunction) + "}", "lines long"},
		{"long line", "mape/a.go", "package mape // " + strings.Repeat("x", maxLine), "columns"},
		{"long line in a test", "mape/a_test.go", "package mape // " + strings.Repeat("x", maxLine), "columns"},
		{"tab counts once", "mape/a.go", "package mape\n\t// " + strings.Repeat("x", maxLine-4) + "\n", ""},
		{"methods", "mape/a.go", methods("T", maxMethods+1), "T has 41 methods, over 40"},
		{"methods of two files", "mape/a.go", methods("*T", maxMethods), ""},
		{"fields", "mape/a.go", "package mape; type t struct {" + strings.Repeat("_ int\n", maxFields+1) + "}", "26 fields"},
		{"fields in one line", "mape/a.go", "package mape; type t struct { a, b, c int }", ""},
		{"interface", "mape/a.go", "package mape; type t interface {" + interfaceOf(maxInterface+1) + "}", "13 methods"},
		{"noinline", "mape/a.go", "package mape\n\n//go:noinline\nfunc f() {}\n", "go:noinline"},
		{"long file", "mape/a.go", "package mape" + strings.Repeat("\n", maxFile), "lines long"},
		{"skip", "mape/a_test.go", `package mape; import "testing"; func TestX(t *testing.T) { t.Skip("no Engine") }`, "skips"},
		{"gated skip", "mape/a_test.go", `package mape; import ("os"; "testing"); func TestX(t *testing.T) {
 if os.Getenv("EFFISCALE_REQUIRE_ENGINE") != "1" { t.Skip("no Engine") } }`, ""},
		{"listed skip", "knowledge/store/a_test.go", `package store; import "testing"; func tmpfs(t *testing.T) { t.Skip("not root") }`, ""},
		{"not Go", "mape/a.go", `package`, "expected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := fstest.MapFS{
				c.file:          {Data: []byte(c.source)},
				"go.mod":        {Data: []byte("module " + module)},
				"nested/go.mod": {Data: []byte("module nested")},
			}
			faults, err := inspect(tree, layout(), adapters(), skips())
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				if len(faults) > 0 {
					t.Errorf("refused: %q", faults)
				}
				return
			}
			if len(faults) != 1 || !strings.Contains(faults[0], c.want) {
				t.Errorf("got %q, want one fault with %q", faults, c.want)
			}
			if len(faults) == 1 && !strings.HasPrefix(faults[0], c.file) &&
				!strings.HasPrefix(faults[0], c.file[:strings.LastIndex(c.file, "/")]) {
				t.Errorf("%q does not say where", faults[0])
			}
		})
	}
}
