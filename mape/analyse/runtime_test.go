package analyse_test

import (
	"os"
	"strings"
	"testing"

	"github.com/effiscale/effiscale/mape/analyse"
)

func TestRuntimeOf(t *testing.T) {
	for _, c := range []struct {
		processes []string
		want      string
		heap      bool
	}{
		{[]string{"java"}, "OpenJDK", true},
		{[]string{"tini", "sh", "java"}, "OpenJDK", true},
		{[]string{"node"}, "Node.js", true},
		{[]string{"node-MainThread"}, "Node.js", true},
		{[]string{"npm", "node", "nginx"}, "Node.js", true},
		{[]string{"postgres", "postgres"}, "PostgreSQL", false},
		{[]string{"redis-server"}, "Redis", false},
		{[]string{"beam.smp", "erl_child_setup"}, "Erlang/OTP", false},
		{[]string{"php-fpm8.2"}, "PHP-FPM", false},
		{[]string{"mariadbd"}, "MariaDB or MySQL", false},
		{[]string{"nodejs2", "javac", "python3", "my-java"}, "", false},
		{nil, "", false},
	} {
		got := analyse.RuntimeOf(c.processes)
		if got.Name != c.want || got.Heap != c.heap || (got.Name != "") != (got.Set != "" && got.Fixed != "") {
			t.Errorf("%q: %+v, want %q", c.processes, got, c.want)
		}
	}
}

// The help topic has each runtime that is recognised, and what is to be set.
func TestRuntimesAreInTheHelp(t *testing.T) {
	text, err := os.ReadFile("../../node/ctl/help/runtimes.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range analyse.Runtimes() {
		if !strings.Contains(string(text), name) {
			t.Errorf("effiscale help runtimes does not have %q", name)
		}
	}
}
