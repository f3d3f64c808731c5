"""KubeProxyConfiguration, kubeproxy.config.k8s.io/v1alpha1: its fields, defaults, strict decoding and validation.

Also how kube-proxy shows it at ``/configz``. Pure: texts and values in, values and problems out.
"""
