package node

import (
	"context"
	"errors"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/config"
	"github.com/effiscale/effiscale/node/view"
)

var _ api.Daemon = (*Node)(nil)

// recordsAnHour bounds what status counts: it must answer at once.
const recordsAnHour = 2000

// localStatus is the whole node at a glance.
func (n *Node) localStatus(ctx context.Context) (api.Status, error) {
	units, sum, err := n.loop.Containers(ctx)
	if err != nil {
		return api.Status{}, loopError(err)
	}
	records, err := n.records(ctx, store.Filter{Since: time.Now().Add(-time.Hour), Limit: recordsAnHour})
	if err != nil {
		n.log.Debug().Err(err).Msg("history cannot be read")
	}
	return view.Status(n.describe(units), units, &sum, records, time.Now()), nil
}

// describe is what status tells of this daemon.
func (n *Node) describe(units []mape.ContainerStatus) *view.Daemon {
	cfg := n.cfg.Load()
	containers := make([]knowledge.Container, 0, len(units))
	for i := range units {
		containers = append(containers, units[i].Container.Container)
	}
	d := &view.Daemon{
		Version: n.o.Version, ID: string(n.identity.Node), Name: n.identity.Name, Mode: cfg.Node.Mode.String(), ConfigFile: cfg.File,
		StartedAt: n.started, Crashes: n.crashes, Machine: n.host(), Actuator: cfg.Docker.Actuator.String(), Source: n.source,
		Store: n.store.Health(), StoreOpened: n.why, Disagreements: config.Disagreements(containers),
	}
	d.Engine.Up, d.Engine.Since, d.Engine.Error = n.engine.State()
	if n.kernel != nil {
		d.Cgroup = n.kernel.Version()
	}
	return d
}

func loopError(err error) error {
	if errors.Is(err, mape.ErrStopped) {
		return api.Errorf(api.KindUnavailable, "the daemon is stopping: try again in a few seconds")
	}
	return err
}
