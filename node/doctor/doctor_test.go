package doctor

import (
	"strings"
	"testing"

	"github.com/effiscale/effiscale/node/config"
)

// TestRow128Writers: row 128, the doctor names the users whose changes are taken over loopback.
func TestRow128Writers(t *testing.T) {
	cfg := config.Defaults()
	if got := checkWriters(cfg); !got.OK || !strings.Contains(got.Detail, "changes without a token: root") {
		t.Errorf("%+v", got)
	}
	cfg.API.TokensFile = "/etc/effiscale/tokens"
	if got := checkWriters(cfg); !got.OK || !strings.Contains(got.Detail, "needs a token of /etc/effiscale/tokens") {
		t.Errorf("%+v", got)
	}
}
