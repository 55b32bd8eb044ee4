package service

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/profile"
)

// Row 126: what was learned under a joined name goes to the one service that it was of, and
// to none where two had it.
func TestMigrate(t *testing.T) {
	list := func(keys ...knowledge.ServiceKey) (out []knowledge.Container) {
		for _, k := range keys {
			out = append(out, knowledge.Container{Service: k})
		}
		return out
	}
	for _, c := range []struct {
		name string
		list []knowledge.Container
		want knowledge.ServiceKey // has what was learned
	}{
		{"one", list("other", "app_dev/db", "app_dev/db"), "app_dev/db"},
		{"the other split", list("app/dev_db"), "app/dev_db"},
		{"both", list("app/dev_db", "app_dev/db"), "app_dev_db"},
		{"both, the other way", list("app_dev/db", "app/dev_db", "app_dev/db"), "app_dev_db"},
		{"a container of that name", list("app_dev/db", "app_dev_db"), "app_dev_db"},
		{"none", list("web"), "app_dev_db"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, learned := NewRegistry(), profile.New()
			r.Restore(time.Now(), time.Second, Stored{
				Profiles: map[knowledge.ServiceKey]*profile.Profile{"app_dev_db": learned},
				Pauses:   map[knowledge.ServiceKey]knowledge.Pause{"app_dev_db": {On: true}},
			})
			for range 2 {
				r.Migrate(c.list)
			}
			s := r.Lookup(c.want)
			if s == nil || s.Profile != learned || !s.Pause.On || s.Key != c.want || len(r.services) != 1 {
				t.Fatalf("%s has %+v; %d services", c.want, s, len(r.services))
			}
			if moved := c.want != "app_dev_db"; moved != (len(r.Pack(time.Now(), false).Profiles) == 1) {
				t.Error("it is written under the new name once it moved, else not")
			}
		})
	}
	r := NewRegistry() // the next start: both names are on the disk
	r.Get("shop/web")
	r.Get("shop_web").Pause = knowledge.Pause{On: true}
	r.Migrate(list("shop/web"))
	if !r.Get("shop/web").Pause.On || r.Get("shop_web").Pause.On {
		t.Error("the pause stays with the old name")
	}
}
