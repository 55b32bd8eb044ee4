package ops

import (
	"strings"
	"testing"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
)

// Row 126: a service of Compose is known by project and service, and may be named without
// the project, or joined, where that is one; containers and services of a name come first.
func TestCanonicalNames(t *testing.T) {
	var units []mape.ContainerStatus
	for name, service := range map[string]knowledge.ServiceKey{
		"app_dev-db-1": "app_dev/db", "app-dev_db-1": "app/dev_db", "shop-web-1": "shop/web", "shop-web-2": "shop/web",
		"other-web-1": "other/web", "cache": "cache", "shop-cache-1": "shop/cache", "shop-run-1": "shop/web.oneoff",
	} {
		var u mape.ContainerStatus
		u.Container.Name, u.Container.Service = name, service
		units = append(units, u)
	}
	for name, want := range map[string]string{
		"app_dev/db": "app_dev/db", "db": "app_dev/db", "dev_db": "app/dev_db", "shop_web": "shop/web", "shop/web": "shop/web",
		"shop-web-1": "shop-web-1", "cache": "cache", "shop_cache": "shop/cache", "nobody": "nobody", "": "",
		"web": "!", "app_dev_db": "!",
	} {
		got, err := canonical(units, name)
		switch {
		case want == "!":
			if api.KindOf(err) != api.KindBadRequest || !strings.Contains(err.Error(), "/") {
				t.Errorf("%q: %q, %v; it is of two projects", name, got, err)
			}
		case err != nil || got != want:
			t.Errorf("%q: %q, %v; want %q", name, got, err, want)
		}
	}
}
