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

// floor is how far a room may reach, from thought to life.
type floor uint8

const (
	words floor = iota // plain data: the standard library only
	pure               // thought: words and other thought; no clock, no I/O
	deeds              // touches the outside through its own door
	life               // introduces the rooms to each other
	tests              // nothing but tests and what they need
)

// room is what one package may know.
type room struct {
	path  string // below the module
	floor floor
	// knows lists other rooms that it may import, besides the words and, from
	// deeds on, the pure ones. "*" is all of them.
	knows []string
	// logs: zerolog may be used, by value.
	logs bool
}

// The house. A package that is not here has no room, and the test fails: give
// it one in the same commit, and think about what it may know.
func house() []room {
	return []room{
		{path: ".", floor: life, knows: []string{"*"}, logs: true},

		{path: "knowledge", floor: words},

		{path: "knowledge/history", floor: pure},
		{path: "knowledge/profile", floor: pure},
		{path: "mape/analyse", floor: pure},
		{path: "mape/forecast", floor: pure},
		{path: "mape/plan", floor: pure},
		{path: "mape/simulate", floor: pure},

		{path: "knowledge/store", floor: deeds, logs: true},
		{path: "docker", floor: deeds, knows: []string{"docker/cgroup"}, logs: true},
		{path: "docker/cgroup", floor: deeds},
		{path: "docker/dockertest", floor: deeds, knows: []string{"docker", "docker/cgroup"}},
		{path: "docker/witness", floor: deeds},
		{path: "mape", floor: deeds, knows: []string{"mape/monitor", "mape/execute"}, logs: true},
		{path: "mape/monitor", floor: deeds, logs: true},
		{path: "mape/execute", floor: deeds, logs: true},

		{path: "node/cluster/ring", floor: pure},
		{path: "node/cluster/claim", floor: deeds},
		{path: "node/cluster/trust", floor: deeds},
		{path: "node/cluster/relay", floor: deeds, knows: []string{"node/cluster/trust"}, logs: true},
		{path: "node/cluster/member", floor: deeds, logs: true},
		{path: "node/cluster", floor: life, knows: []string{"mape", "node/cluster/claim", "node/cluster/member", "node/cluster/relay", "node/cluster/trust"}, logs: true},
		{path: "node/test/sim", floor: tests, knows: []string{"*"}, logs: true},
		{path: "node/test/sim/simnet", floor: deeds},
		{path: "node/test/hosts", floor: tests, knows: []string{"*"}},

		{path: "node", floor: life, knows: []string{"*"}, logs: true},
		{path: "node/config", floor: deeds},
		{path: "node/api", floor: deeds, logs: true},
		{path: "node/ctl", floor: deeds, knows: []string{"node/api"}},
		{path: "node/demo", floor: life, knows: []string{"docker", "docker/cgroup", "node/api"}, logs: true},

		{path: "node/test/rules", floor: tests, knows: []string{"node/config"}},
		{path: "node/test/e2e", floor: tests, knows: []string{"*"}, logs: true},
		{path: "node/test/cost", floor: tests, knows: []string{"*"}, logs: true},
		{path: "node/test/vm", floor: tests, knows: []string{"*"}},
		{path: "node/test/vm/load", floor: tests},
	}
}

// door is an outside library and the rooms through which it comes in. No room:
// tests only. What is not listed is not a dependency yet.
type door struct {
	lib   string // prefix of the import path
	rooms string // separated by blanks
}

func doors() []door {
	return []door{
		{"github.com/docker/", "docker"},
		{"github.com/cenkalti/backoff/", "docker"},
		{"github.com/sony/gobreaker/", "docker"},
		{"go.etcd.io/bbolt", "knowledge/store"},
		{"github.com/pelletier/go-toml/", "node/config"},
		{"github.com/danielgtaylor/huma/", "node/api"},
		{"github.com/fxamacker/cbor/", "node/cluster/trust"},
		{"github.com/hashicorp/memberlist", "node/cluster/member node/test/sim/simnet node/test/hosts"},
		{"github.com/prometheus/", "node/api"},
		{"github.com/spf13/cobra", "node/ctl"},
		{"charm.land/", "node/demo"},
		{"github.com/charmbracelet/x/", "node/ctl node/demo"},
		{"github.com/guptarohit/asciigraph", "node/demo"},
		{"github.com/wcharczuk/go-chart/", "node/ctl"},
		{"github.com/HdrHistogram/hdrhistogram-go", "node/demo"},
		{"github.com/coreos/go-systemd/", "node"},
		{"gonum.org/v1/gonum", "mape/forecast"},
		{"golang.org/x/time", "node/api"},
		{"golang.org/x/sys", "docker/cgroup node node/api node/demo node/test/vm/load"},
		{"github.com/rs/zerolog", ""}, // room.logs says where
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

// TestHouse holds the tree against the rules.
func TestHouse(t *testing.T) {
	faults, err := inspect(os.DirFS(root), house(), doors(), skips())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		t.Error(f)
	}
}

// TestHouseCanFail shows that each rule refuses what it should, and nothing else.
func TestHouseCanFail(t *testing.T) {
	for _, c := range []struct {
		name, file, source string
		want               string // part of the only fault; "": none
	}{
		{"new package", "node/new/new.go", "package new", "has no room"},
		{"room", "mape/plan/a.go", "package plan", ""},
		{"the top", "other.go", "package main", "but main.go"},
		{"testdata", "mape/plan/testdata/a.go", "package nowhere", ""},
		{"nested module", "nested/sub/a.go", "package nowhere", ""},
		{"words import ours", "knowledge/a.go", `package knowledge; import _ "` + module + `/mape/plan"`, "may not import mape/plan"},
		{"words import a library", "knowledge/a.go", `package knowledge; import _ "gonum.org/v1/gonum/stat"`, "may not import gonum"},
		{"pure imports pure", "mape/plan/a.go", `package plan; import _ "` + module + `/knowledge/history"`, ""},
		{"pure imports os", "mape/plan/a.go", `package plan; import _ "os"`, "may not import os"},
		{"pure imports net/http", "mape/plan/a.go", `package plan; import _ "net/http"`, "may not import net/http"},
		{"pure imports sync/atomic", "mape/plan/a.go", `package plan; import _ "sync/atomic"`, "may not import sync/atomic"},
		{"pure imports log", "mape/plan/a.go", `package plan; import _ "github.com/rs/zerolog"`, "may not import github.com/rs/zerolog"},
		{"pure imports rand", "mape/plan/a.go", `package plan; import _ "math/rand/v2"`, "may not import math/rand"},
		{"pure asks the clock", "mape/plan/a.go", `package plan; import "time"; func f() time.Time { return time.Now() }`, "time.Now"},
		{"pure asks by another name", "mape/plan/a.go", `package plan; import c "time"; var f = c.Since`, "time.Since"},
		{"words ask the clock", "knowledge/a.go", `package knowledge; import "time"; func f() { time.Sleep(1) }`, "time.Sleep"},
		{"a pure test may", "mape/plan/a_test.go", `package plan; import ("os"; "time"; "pgregory.net/rapid"); var _, _, _ = os.Args, time.Now, rapid.Check`, ""},
		{"deeds ask the clock", "mape/a.go", `package mape; import "time"; var f = time.Now`, ""},
		{"mape imports docker", "mape/a.go", `package mape; import _ "` + module + `/docker"`, "may not import docker"},
		{"mape imports the store", "mape/execute/a.go", `package execute; import _ "` + module + `/knowledge/store"`, "may not import knowledge/store"},
		{"docker imports node", "docker/a.go", `package docker; import _ "` + module + `/node/api"`, "may not import node/api"},
		{"ctl imports docker", "node/ctl/a.go", `package ctl; import _ "` + module + `/docker"`, "may not import docker"},
		{"ctl imports api", "node/ctl/a.go", `package ctl; import _ "` + module + `/node/api"`, ""},
		{"another door", "node/a.go", `package node; import _ "github.com/docker/docker/client"`, "may not import github.com/docker/docker/client"},
		{"another door in a test", "node/a_test.go", `package node; import _ "go.etcd.io/bbolt"`, "may not import go.etcd.io/bbolt"},
		{"unknown library", "node/a.go", `package node; import _ "example.com/x"`, "may not import example.com/x"},
		{"test library at work", "node/a.go", `package node; import _ "pgregory.net/rapid"`, "may not import pgregory.net/rapid"},
		{"log by pointer", "mape/a.go", `package mape; import "github.com/rs/zerolog"; type t struct { log *zerolog.Logger }`, "zerolog.Logger by value"},
		{"log by value", "mape/a.go", `package mape; import "github.com/rs/zerolog"; type t struct { log zerolog.Logger }`, ""},
		{"init", "mape/a.go", `package mape; func init() {}`, "func init"},
		{"method init", "mape/a.go", `package mape; type t int; func (t) init() {}`, ""},
		{"mutable global", "mape/a.go", `package mape; var n int`, "global n"},
		{"assigned global", "mape/a.go", "package mape; var n = 1\nfunc f() { n = 2 }", "global n"},
		{"global in a map", "mape/a.go", "package mape; var n = map[int]int{}\nfunc f() { n[1]++ }", "global n"},
		{"table", "mape/a.go", "package mape; var n = []int{1}\nfunc f() int { n := 1; n = 2; return n }", ""},
		{"code in tests only", "node/test/vm/a.go", "package vmtest", "tests only"},
		{"too many parameters", "mape/a.go", `package mape; func f(a, b, c, d, e, g int) {}`, "6 parameters"},
		{"long function", "mape/a.go", "package mape; func f() {" + strings.Repeat("\n", maxFunction) + "}", "lines long"},
		{"long file", "mape/a.go", "package mape" + strings.Repeat("\n", maxFile), "lines long"},
		{"skip", "mape/a_test.go", `package mape; import "testing"; func TestX(t *testing.T) { t.Skip("no Engine") }`, "skips"},
		{"gated skip", "mape/a_test.go", `package mape; import ("os"; "testing"); func TestX(t *testing.T) { if os.Getenv("EFFISCALE_REQUIRE_ENGINE") != "1" { t.Skip("no Engine") } }`, ""},
		{"listed skip", "knowledge/store/a_test.go", `package store; import "testing"; func tmpfs(t *testing.T) { t.Skip("not root") }`, ""},
		{"not Go", "mape/a.go", `package`, "expected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := fstest.MapFS{
				c.file:          {Data: []byte(c.source)},
				"go.mod":        {Data: []byte("module " + module)},
				"nested/go.mod": {Data: []byte("module nested")},
			}
			faults, err := inspect(tree, house(), doors(), skips())
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
			if len(faults) == 1 && !strings.HasPrefix(faults[0], c.file) && !strings.HasPrefix(faults[0], c.file[:strings.LastIndex(c.file, "/")]) {
				t.Errorf("%q does not say where", faults[0])
			}
		})
	}
}
