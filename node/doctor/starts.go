package doctor

import (
	"context"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
)

// startsMost bounds the containers that checkStarts inspects, startsNamed those that it names.
const startsMost, startsNamed = 500, 10

// checkStarts names containers that the Engine would refuse to start again with the limits
// that it has on record.
func checkStarts(ctx context.Context, c *docker.Client, cpus int, list []knowledge.Container) (checks []api.Check) {
	for i := range list[:min(len(list), startsMost)] {
		info, err := c.Inspect(ctx, list[i].ID)
		if err != nil { // it was removed meanwhile, or inspects are refused, which is another check
			continue
		}
		if why := info.Limits.RefusedAtStart(cpus); why != "" && len(checks) < startsNamed {
			checks = append(checks, api.Check{Name: "start", Severity: "warning",
				Detail: info.Name + " cannot be started again: " + why,
				Remedy: "raise the limit with `docker update`; of a managed container the daemon does it"})
		}
	}
	return checks
}
