// Serves go-containerregistry's registry with its referrers API, behind TLS and tokens: `crane registry serve` has
// neither. Tokens are opaque, one for the life of the process, and given to the one user.
package main

import (
	"crypto/subtle"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
)

const token = "opaque-token-of-the-outside-check"

func main() {
	address := flag.String("address", "127.0.0.1:5000", "HOST:PORT to listen on")
	cert := flag.String("cert", "", "certificate in PEM; without it there is no TLS")
	key := flag.String("key", "", "its key")
	user := flag.String("user", "", "user for tokens; without it nobody is asked for one")
	password := flag.String("password", "", "the user's password")
	flag.Parse()

	inner := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
	scheme := "http"
	if *cert != "" {
		scheme = "https"
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		u, p, _ := r.BasicAuth()
		if subtle.ConstantTimeCompare([]byte(u+":"+p), []byte(*user+":"+*password)) != 1 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 300})
	})
	mux.HandleFunc("/v2/", func(w http.ResponseWriter, r *http.Request) {
		if *user != "" && r.Header.Get("Authorization") != "Bearer "+token {
			// Scopes are granted to whoever has the token; clients still have to find them here.
			scope := ""
			if rest, ok := strings.CutPrefix(r.URL.Path, "/v2/"); ok && rest != "" {
				name := strings.SplitN(rest, "/", 2)[0]
				scope = fmt.Sprintf(`,scope="repository:%s:pull,push"`, name)
			}
			w.Header().Set("WWW-Authenticate",
				fmt.Sprintf(`Bearer realm="%s://%s/token",service="outside"%s`, scheme, r.Host, scope))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	})
	if *cert != "" {
		log.Fatal(http.ListenAndServeTLS(*address, *cert, *key, mux))
	}
	log.Fatal(http.ListenAndServe(*address, mux))
}
