// HTTP over Go's net/http. The runtime takes the number of threads from the CPU limit of the container.
package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	text      = "text/plain; charset=utf-8"
	grace     = 10 * time.Second
	readHead  = 10 * time.Second
	keepAlive = 75 * time.Second
)

func main() {
	port := os.Getenv("PORT")
	if port == "" {
		port = "60000"
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", answer(http.StatusOK, text, "Hello from tare\n"))
	mux.HandleFunc("GET /json", answer(http.StatusOK, "application/json", "{\"message\":\"Hello from tare\"}\n"))
	mux.HandleFunc("GET /health", answer(http.StatusOK, text, "ok\n"))
	mux.HandleFunc("GET /ready", answer(http.StatusOK, text, "ready\n"))
	mux.HandleFunc("/", answer(http.StatusNotFound, text, "not found\n"))

	server := &http.Server{
		Addr:              "0.0.0.0:" + port,
		Handler:           mux,
		ReadHeaderTimeout: readHead,
		IdleTimeout:       keepAlive,
	}
	terminated, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			log.Fatal(err)
		}
	}()
	<-terminated.Done()
	within, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := server.Shutdown(within); err != nil {
		log.Fatal(err)
	}
}

func answer(status int, mediaType, body string) http.HandlerFunc {
	bytes := []byte(body)
	return func(response http.ResponseWriter, _ *http.Request) {
		response.Header().Set("Content-Type", mediaType)
		response.WriteHeader(status)
		_, _ = response.Write(bytes)
	}
}
