# The collector of one device as a container: small, not root, with a root file system that may be read-only.
#
#   deployments/edge_bundle.sh dist/edge && docker build -f deployments/edge.Dockerfile -t edgeloop-edge dist/edge
#   docker run -d --restart=always --read-only --tmpfs /tmp:size=64m --cap-drop=ALL --security-opt=no-new-privileges \
#     --stop-timeout 20 -v edgeloop:/var/lib/edgeloop -v /etc/edgeloop:/etc/edgeloop:ro \
#     --env-file /etc/edgeloop/environment edgeloop-edge
#
# A webcam: --device /dev/video0 --group-add video. The build's context is a bundle, so nothing else gets in.
FROM python:3.11-slim-bookworm AS build
COPY uv.txt edge.txt *.whl /bundle/
RUN python -m venv /opt/edgeloop \
 && python -m pip install --no-cache-dir --require-hashes -r /bundle/uv.txt \
 && uv pip install --python /opt/edgeloop/bin/python --no-cache --no-deps --require-hashes -r /bundle/edge.txt \
 && uv pip install --python /opt/edgeloop/bin/python --no-cache --no-deps --no-index --find-links /bundle edgeloop \
 && /opt/edgeloop/bin/python -m pip uninstall --yes pip setuptools

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --user-group --home-dir /var/lib/edgeloop --create-home --shell /usr/sbin/nologin edgeloop
COPY --from=build /opt/edgeloop /opt/edgeloop
ENV PATH=/opt/edgeloop/bin:$PATH HOME=/var/lib/edgeloop PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1
USER 10001:10001
WORKDIR /var/lib/edgeloop
VOLUME /var/lib/edgeloop
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=60s --timeout=10s --start-period=120s --retries=3 \
  CMD ["edgeloop", "edge", "health", "--device", "/etc/edgeloop/device.yaml"]
ENTRYPOINT ["edgeloop"]
CMD ["edge", "run", "--device", "/etc/edgeloop/device.yaml"]
