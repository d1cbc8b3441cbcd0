# The server, and the SDK for programs that run beside it.
FROM python:3.11-slim AS build
WORKDIR /src
COPY constraints.txt ./
RUN python -m venv /opt/mq9 \
 && /opt/mq9/bin/pip install --no-cache-dir --constraint constraints.txt pip
COPY pyproject.toml README.md LICENSE ./
COPY mq9 mq9
COPY langchain_mq9 langchain_mq9
COPY mcp_server mcp_server
RUN /opt/mq9/bin/pip install --no-cache-dir --constraint constraints.txt \
      --build-constraint constraints.txt '.[cluster,fast,mcp,nkeys,semantic,server,worker]'

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /data --no-create-home mq9 \
 && install --directory --owner=mq9 --group=mq9 --mode=700 /data
COPY --from=build /opt/mq9 /opt/mq9
COPY examples/worker.py /opt/mq9/examples/worker.py
# Clients come from other containers. Without a token or users the server refuses to start so;
# metrics and health stay inside the container unless MQ9_ADMIN_HOST says otherwise.
ENV PATH=/opt/mq9/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MQ9_HOST=0.0.0.0 \
    MQ9_ADMIN_PORT=9090 \
    MQ9_DATA=/data/mq9.db
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 4222 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as web; web.urlopen(f'http://127.0.0.1:{os.environ[\"MQ9_ADMIN_PORT\"]}/readyz', timeout=4)"]
ENTRYPOINT ["mq9"]
CMD ["serve"]
