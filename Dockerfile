# The images of docker-compose.yml: `service` submits, migrates and serves the dashboard; `worker` trains on the CPU, by
# the kernel and without torch; `worker-gpu` has torch too.

FROM python:3.11-slim-bookworm AS base
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/mlpq --shell /usr/sbin/nologin mlpq \
 && install --directory --owner mlpq --group mlpq /var/lib/mlpq /var/lib/mlpq/artifacts /var/lib/mlpq/data
ENV PATH=/opt/mlpq/bin:$PATH MLPQ_HOME=/var/lib/mlpq PYTHONUNBUFFERED=1

# Only the version, not the sources: a change of the sources does not install the dependencies again.
FROM base AS dependencies
WORKDIR /src
ENV PIP_CONSTRAINT=/src/constraints.txt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/mlpq
COPY constraints.txt pyproject.toml ./
COPY service/mlpq/version.py service/mlpq/
RUN touch LICENSE README.md && mkdir workers migrations && pip --python /opt/mlpq/bin/python install .

# Compiles the kernel; the images have no compiler.
FROM dependencies AS code
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
COPY . .
RUN pip --python /opt/mlpq/bin/python install --no-deps --ignore-installed --prefix /code .

FROM base AS runtime
COPY --from=dependencies /opt/mlpq /opt/mlpq
WORKDIR /var/lib/mlpq
ENTRYPOINT ["mlpq"]

FROM runtime AS service
COPY --from=code /code /opt/mlpq
USER mlpq

# What workers need in addition: --prefix installs only what is missing in /opt/mlpq.
FROM dependencies AS training
RUN pip --python /opt/mlpq/bin/python install --prefix /training '.[cpu]'

FROM dependencies AS training-gpu
RUN pip --python /opt/mlpq/bin/python install --prefix /training '.[worker]'

FROM runtime AS with-data
RUN apt-get update \
 && apt-get install --yes --no-install-recommends dataset-fashion-mnist \
 && rm -rf /var/lib/apt/lists/*
COPY --from=code /code /opt/mlpq

FROM with-data AS worker
COPY --from=training /training /opt/mlpq
RUN /opt/mlpq/bin/python -c "from mlpq_workers.kernel import build; build()" # setuptools goes on where gcc fails
USER mlpq

FROM with-data AS worker-gpu
COPY --from=training-gpu /training /opt/mlpq
USER mlpq
