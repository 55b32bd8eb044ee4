package ops

import (
	"os"
	"regexp"
	"testing"

	"github.com/effiscale/effiscale/node/api"
)

// TestTableIsComplete: each row of the table in node/api has an answer here, under a path and
// a name of its own, and hosts call each method by the name that it has had.
func TestTableIsComplete(t *testing.T) {
	source, err := os.ReadFile("../api/operations.go")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{Keys: &KeyRing{}})
	routes := s.Backend().Routes
	if rows := regexp.MustCompile(`\tOp\w+ += Operation\[`).FindAll(source, -1); len(rows) != len(routes) {
		t.Errorf("%d operations, %d of them have an answer", len(rows), len(routes))
	}
	seen := map[string]bool{}
	for _, r := range routes {
		for _, key := range []string{r.Name, r.Verb + " " + r.Path} {
			if seen[key] {
				t.Errorf("two operations have %s", key)
			}
			seen[key] = true
		}
		if (r.Verb == "GET") != (r.Role == api.RoleRead) {
			t.Errorf("%s: role %s does not fit %s", r.Name, r.Role, r.Verb)
		}
	}
	methods := s.Handlers()
	for _, name := range []string{"status", "plan", "explain", "history", "trace", "scale", "pause", "restore", "about",
		"keys",
		"decide", "service", "runs", "where", "reach"} {
		if h, ok := methods[name]; !ok || (h.Serve == nil) == (h.Stream == nil) {
			t.Errorf("no method %s", name)
		}
		delete(methods, name)
	}
	for name := range methods {
		t.Errorf("method %s is not in the list: hosts of the previous version do not have it", name)
	}
}
