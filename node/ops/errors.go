package ops

import (
	"context"
	"errors"
	"net/http"

	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/relay"
	"github.com/effiscale/effiscale/node/view"
)

// kinds pairs the kinds of errors that travel between hosts with their statuses.
func kinds() map[api.Kind]int {
	return map[api.Kind]int{
		api.KindBadRequest: http.StatusBadRequest, api.KindNotFound: http.StatusNotFound,
		api.KindRefused: http.StatusConflict, api.KindTimeout: http.StatusGatewayTimeout,
		api.KindUnavailable: http.StatusBadGateway, api.KindForbidden: http.StatusForbidden,
		api.KindInvalid: http.StatusUnprocessableEntity,
	}
}

// forPeer is an error of this host as it is sent to another one.
func forPeer(err error) error {
	status, ok := kinds()[api.KindOf(err)]
	if !ok {
		return err
	}
	return &relay.Error{Status: status, Text: err.Error()}
}

// ofPeer is an error of a call to another host, with the host's name.
func ofPeer(host string, err error) error {
	if err == nil {
		return nil
	}
	if older(err) {
		return api.Errorf(api.KindUnavailable, "host %s is of an older version, which does not support this: ask there", host)
	}
	if answered := new(relay.Error); errors.As(err, &answered) {
		for kind, status := range kinds() {
			if status == answered.Status {
				return api.Errorf(kind, "on host %s: %s", host, answered.Text)
			}
		}
		kind := api.KindInternal
		if answered.Status == http.StatusTooManyRequests || answered.Status == http.StatusServiceUnavailable {
			kind = api.KindUnavailable // overloaded
		}
		return api.Errorf(kind, "on host %s: %s", host, answered.Error())
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return api.Errorf(api.KindTimeout, "host %s did not answer in time: `effiscale members` shows its state", host)
	}
	return api.Errorf(api.KindUnavailable, "host %s cannot be reached: %v; `effiscale members` shows its state", host, err)
}

// older reports whether a host answered that it has no such method.
func older(err error) bool {
	answered := new(relay.Error)
	return errors.As(err, &answered) && answered.Text == relay.NoMethod
}

// nowhere is the error for a name that no host knows that answered.
func nowhere(ref string, silent []string) error {
	if len(silent) > 0 {
		return api.Errorf(api.KindUnavailable,
			"no container or service %q on the hosts that answer; it may be on these, which do not: %s", ref, view.Names(silent))
	}
	return api.Errorf(api.KindNotFound,
		"no container or service %q on any host of the cluster: `effiscale status` lists them", ref)
}

func severalHosts(ref string, forms []string) error {
	return api.Errorf(api.KindBadRequest, "%q is on several hosts, name one: %s; or give the container's id",
		ref, view.Names(forms))
}
