package view

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
)

// TestServicesOfManyHosts: status adds up what 256 hosts run, asks for each owner once,
// and lists by name.
func TestServicesOfManyHosts(t *testing.T) {
	const hosts, each = 256, 100
	asked := map[knowledge.ServiceKey]int{}
	one, two := 1.0, int64(2)
	own := []api.ServiceView{{Name: "shared", Owner: "here", Containers: []string{"here"}, CPULimit: &one,
		MemoryLimit: &two}}
	m := NewMerger("", own, func(key knowledge.ServiceKey) (string, []string) {
		asked[key]++
		return "of " + string(key), nil
	})
	for h := range hosts {
		more := []api.ServiceView{{Name: "shared", Containers: []string{fmt.Sprint(h)}, CPUUsed: 1, MemoryUsed: 2,
			CPULimit: &one}}
		for i := range each {
			more = append(more, api.ServiceView{Name: fmt.Sprintf("s-%03d-%d", i, h), Containers: []string{"c"}})
		}
		m.Add(fmt.Sprint(h), more)
		m.Add(fmt.Sprint(h), more[1:2])
	}
	all := m.Services()
	if len(all) != hosts*each+1 || len(asked) != hosts*each || !slices.IsSortedFunc(all,
		func(a, b api.ServiceView) int { return strings.Compare(a.Name, b.Name) }) {
		t.Fatalf("%d services, %d owners", len(all), len(asked))
	}
	for _, v := range all {
		want := 1
		switch {
		case v.Name == "shared":
			if v.Owner != "here" || len(v.Containers) != hosts+1 || v.CPUUsed != hosts || v.MemoryUsed != 2*hosts ||
				*v.CPULimit != hosts+1 || v.MemoryLimit != nil {
				t.Errorf("%+v", v)
			}
			continue
		case strings.HasPrefix(v.Name, "s-000-"):
			want = 2
		}
		if key := knowledge.ServiceKey(v.Name); asked[key] != 1 || v.Owner != "of "+v.Name || len(v.Containers) != want {
			t.Fatalf("%+v, asked %d times", v, asked[key])
		}
	}
}
