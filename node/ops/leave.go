package ops

import (
	"context"
	"errors"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/member"
)

// leave takes this node out of the cluster, or removes a failed one.
type leave struct {
	peers *peers
	log   zerolog.Logger
}

// Leave leaves the cluster, or, with the name of another node, which failed, makes all forget
// that one. The daemon goes on alone.
func (o leave) Leave(ctx context.Context, q api.LeaveRequest) (api.Done, error) {
	left := api.Done{Status: "left"}
	if q.Name == "" || q.Name == o.peers.self {
		return left, o.peers.cluster.Leave()
	}
	err := o.peers.cluster.Forget(ctx, q.Name)
	switch {
	case errors.Is(err, member.ErrUnknown):
		return left, api.Errorf(api.KindNotFound, "%s", err)
	case err != nil:
		return left, api.Errorf(api.KindRefused, "%s", err)
	}
	o.log.Warn().Str("name", q.Name).Msg("removed a failed node on request")
	return left, nil
}
